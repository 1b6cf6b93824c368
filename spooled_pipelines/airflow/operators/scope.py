"""Which batch a task instance's rows belong to: the same one however often the task is run."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from spooled_pipelines.wire import limits

if TYPE_CHECKING:
    from airflow.sdk import Context


def batch_name(context: Context) -> str:
    """The batch's name: made of dag_id, task_id, run_id and map_index, never of the try.

    So a retry, a Clear and a backfill that reprocesses the run find their batch again. DAG and
    task ids have no slash in them, so two task instances never share a name.
    """
    ti = context["ti"]
    name = f"airflow/{ti.dag_id}/{ti.task_id}/{context['run_id']}/{ti.map_index}"
    if len(name) <= limits.BATCH_NAME_MAX:
        return name
    digest = blake2b(name.encode(), digest_size=16).hexdigest()
    return f"{name[: limits.BATCH_NAME_MAX - len(digest) - 1]}~{digest}"
