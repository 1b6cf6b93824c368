"""What the provider's tests take from Airflow, and find elsewhere in each version of it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spooled_pipelines.airflow.platform.versions import VERSION

if TYPE_CHECKING or VERSION >= (3, 2):
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk._shared.secrets_masker import redact
    from airflow.sdk.exceptions import AirflowRescheduleException
    from airflow.serialization.serialized_objects import DagSerialization
else:
    from airflow.exceptions import AirflowRescheduleException
    from airflow.models.dagbag import DagBag
    from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization

    if VERSION >= (3, 1):
        from airflow.sdk._shared.secrets_masker import redact
    else:
        from airflow.sdk.execution_time.secrets_masker import redact

__all__ = ["AirflowRescheduleException", "DagSerialization", "bag_of", "redact", "runtime_hooks"]


def bag_of(folder: str, *files: str) -> DagBag:
    """Write the DAGs of a folder and of files into a new database of Airflow's, to be run there."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.utils.db import resetdb

    resetdb()
    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(folder)
    for file in files:
        bag.process_file(file)
    assert not bag.import_errors, bag.import_errors
    if VERSION < (3, 1):
        bag.sync_to_db("dags-folder", None)  # type: ignore[attr-defined]  # as it was there
    else:
        import_module(DagBag.__module__).sync_bag_to_db(bag, "dags-folder", None)
    return bag


def runtime_hooks() -> Any:
    """Return the hooks that a task knows, by their connection types."""
    if VERSION >= (3, 2):
        from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

        return ProvidersManagerTaskRuntime().hooks
    from airflow.providers_manager import ProvidersManager

    return ProvidersManager().hooks
