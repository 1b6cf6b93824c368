"""The datasets of an enqueue, for OpenLineage where it is installed."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from spooled_pipelines.airflow.hooks import SpooledHook
from spooled_pipelines.errors import SpooledError


def of_enqueue(operator: Any, task_instance: Any) -> Any:  # noqa: ARG001 - Airflow's signature
    """Return facets for the file that was read and for the queue; None without OpenLineage."""
    try:
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage
    except ImportError:
        return None
    inputs = [Dataset(*names) for names in _files_read(operator)]
    outputs = [Dataset(*names) for names in _queues_written(operator)]
    return OperatorLineage(inputs=inputs, outputs=outputs)


def _files_read(operator: Any) -> list[tuple[str, str]]:
    """Return namespace and name, as OpenLineage names files and objects."""
    if not isinstance(operator.data, str):
        return []
    parts = urlsplit(operator.data)
    if parts.scheme in ("", "file"):
        return [("file", parts.path)]
    return [(f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/") or "/")]


def _queues_written(operator: Any) -> list[tuple[str, str]]:
    try:
        with SpooledHook(operator.spooled_conn_id).get_conn() as client:
            return [(f"spooled://{client.settings.address}", operator.queue_name)]
    except SpooledError:
        return []
