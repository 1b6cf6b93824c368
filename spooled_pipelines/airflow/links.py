"""Links from a task to the server's status page: its batch, and its queue.

Airflow asks for them when a task ends or is deferred, in the process that ran it, and keeps the
addresses. The connection's extra ``page`` says where the server's page is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from spooled_pipelines.airflow.batch_refs import BatchRef
from spooled_pipelines.airflow.hooks import SpooledHook
from spooled_pipelines.errors import SpooledError

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey


class BatchLink(BaseOperatorLink):
    """The page of the batch that a task enqueued or waits for."""

    name = "Spooled batch"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the address; empty if the task has not one batch, or the connection no page."""
        batch = getattr(operator, "shown_batch", None) or getattr(operator, "batch", None)
        if not isinstance(batch, (str, dict)):
            return ""
        return _page(operator, "batches", BatchRef.parse(batch).batch_id)


class QueueLink(BaseOperatorLink):
    """The page of the queue that a task sends to or waits for."""

    name = "Spooled queue"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the address; empty if the queue is not known, or the connection has no page."""
        queue_name = getattr(operator, "queue_name", None)
        if queue_name is None and isinstance(getattr(operator, "batch", None), dict):
            queue_name = operator.batch.get("queue_name")
        return _page(operator, "queues", queue_name) if isinstance(queue_name, str) else ""


def _page(operator: Any, *path: str) -> str:
    try:
        return SpooledHook(operator.spooled_conn_id).page_url(*path)
    except SpooledError:
        # The task itself has reported it.
        return ""
