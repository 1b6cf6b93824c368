"""What OpenLineage is told of an enqueue, where it is installed."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from spooled_pipelines.airflow.hooks.spooled import SpooledHook
from spooled_pipelines.errors import SpooledError


def of_enqueue(operator: Any, task_instance: Any) -> Any:  # noqa: ARG001 - Airflow's signature
    """Facets for the path or URI that was read and for the queue; None without OpenLineage."""
    try:
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage
    except ImportError:
        return None
    inputs = [Dataset(*place) for place in _read(operator)]
    outputs = [Dataset(*place) for place in _sent(operator)]
    return OperatorLineage(inputs=inputs, outputs=outputs)


def _read(operator: Any) -> list[tuple[str, str]]:
    """Namespace and name, as OpenLineage names files and objects."""
    if not isinstance(operator.data, str):
        return []
    parts = urlsplit(operator.data)
    if parts.scheme in ("", "file"):
        return [("file", parts.path)]
    return [(f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/") or "/")]


def _sent(operator: Any) -> list[tuple[str, str]]:
    try:
        with SpooledHook(operator.spooled_conn_id).get_conn() as client:
            return [(f"spooled://{client.settings.address}", operator.queue_name)]
    except SpooledError:
        return []
