"""What a task read and wrote, for OpenLineage where it is installed.

A queue is a dataset: ``spooled://host:port`` and its name. So the DAG that fills a queue, and the
one that reads what came of it, are found from each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from airflow.sdk import ObjectStoragePath

from spooled_pipelines.airflow.hooks import SpooledHook
from spooled_pipelines.airflow.platform.versions import BaseHook
from spooled_pipelines.errors import SpooledError

_COUNTS = (
    *("batch_id", "generation", "rows", "created", "duplicates", "rejected", "retried"),
    *("total", "completed", "deadletter", "cancelled"),
)


def of_enqueue(operator: Any) -> Any:
    """Return what an enqueue read (files, or a query's tables) and what it wrote."""
    data = operator.data if isinstance(operator.data, list) else [operator.data]
    files = [str(path) for path in data if isinstance(path, (str, ObjectStoragePath))]
    written = [operator.ledger, operator.results]
    found = _lineage(operator, files, written, reads_queue=False, counts=operator.shown_batch)
    if found is not None and operator.sql is not None:
        _add_query(found, operator)
    return found


def of_wait(operator: Any, written: Iterable[Any] = ()) -> Any:
    """Return the queue that a sensor waited for, or whose results were read, and what it wrote."""
    batches = operator.shown_batch
    counts = batches[0] if len(batches) == 1 else {}
    return _lineage(operator, (), written, reads_queue=True, counts=counts)


def _lineage(
    operator: Any,
    read: Iterable[str],
    written: Iterable[Any],
    *,
    reads_queue: bool,
    counts: Mapping[str, Any] | None,
) -> Any:
    try:
        from airflow.providers.common.compat.openlineage.facet import Dataset, RunFacet
        from airflow.providers.openlineage.extractors import OperatorLineage
    except ImportError:
        return None
    from attr import make_class

    inputs = [Dataset(*_file(path)) for path in read]
    outputs = [Dataset(*_file(str(path))) for path in written if path is not None]
    queue = getattr(operator, "queue_name", None) or (counts or {}).get("queue_name")
    (inputs if reads_queue else outputs).extend(
        Dataset(*names) for names in _queue(operator, queue)
    )
    told = {name: counts[name] for name in _COUNTS if name in counts} if counts else {}
    facets = {}
    if told:
        # OpenLineage takes a facet of one's own as a class whose attributes are its fields.
        facet = make_class("SpooledBatchRunFacet", list(told), bases=(RunFacet,), kw_only=True)
        facets["spooled_batch"] = facet(**told)
    return OperatorLineage(inputs=inputs, outputs=outputs, run_facets=facets)


def _add_query(found: Any, operator: Any) -> None:
    """Add the tables that a query reads, as far as its database's provider can tell."""
    from airflow.providers.openlineage.sqlparser import get_openlineage_facets_with_sql

    hook: Any = BaseHook.get_hook(operator.sql_conn_id)
    told = get_openlineage_facets_with_sql(
        hook, operator.sql, operator.sql_conn_id, None, use_connection=False
    )
    if told is not None:
        found.inputs += told.inputs
        found.job_facets |= told.job_facets


def _file(path: str) -> tuple[str, str]:
    """Return namespace and name, as OpenLineage names files and objects."""
    parts = urlsplit(path)
    if parts.scheme in ("", "file"):
        return "file", parts.path
    # An object storage's address may begin with an Airflow connection.
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path.lstrip("/") or "/"


def _queue(operator: Any, queue_name: str | None) -> list[tuple[str, str]]:
    if queue_name is None:
        return []
    try:
        with SpooledHook(operator.spooled_conn_id).get_conn() as client:
            return [(f"spooled://{client.settings.address}", queue_name)]
    except SpooledError:
        return []
