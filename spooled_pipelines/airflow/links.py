"""Links from a task to the server's status page: its batch, and its queue.

Airflow asks for them when a task ends or is deferred, in the process that ran it, and keeps the
addresses. The connection's extra ``page`` says where the server's page is.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from spooled_pipelines.airflow.handover.batch_refs import BatchRef, parse_batch_refs
from spooled_pipelines.airflow.hooks import SpooledHook
from spooled_pipelines.errors import InvalidArgumentError, SpooledError

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey

# What the statistics of several have for an id or a name.
_SEVERAL = re.compile(r"\d+ (batches|queues)")


class BatchLink(BaseOperatorLink):
    """The page of the batch that a task enqueued or waits for."""

    name = "Spooled batch"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the address; empty if the task has not one batch, or the connection no page."""
        ids = {ref.batch_id for ref in _batches(operator)}
        return _page(operator, "batches", _one(ids))


class QueueLink(BaseOperatorLink):
    """The page of the queue that a task sends to or waits for."""

    name = "Spooled queue"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the address; empty if the queue is not known, or the connection has no page."""
        names = {getattr(operator, "queue_name", None)}
        if names == {None}:
            names = {ref.queue_name for ref in _batches(operator)}
        return _page(operator, "queues", _one(names))


def _batches(operator: Any) -> list[BatchRef]:
    """Return the batches of a task, without asking Airflow again for what others returned."""
    batch = getattr(operator, "shown_batch", None) or getattr(operator, "batch", None)
    try:
        refs = parse_batch_refs(batch, "") if isinstance(batch, (str, dict, list)) else []
    except InvalidArgumentError:
        # The task itself has reported it.
        refs = []
    return refs


def _one(names: AbstractSet[str | None]) -> str | None:
    """Return the only one; None where there are several, or the number of several ("2 queues")."""
    name = next(iter(names)) if len(names) == 1 else None
    return None if name is None or _SEVERAL.fullmatch(name) else name


def _page(operator: Any, kind: str, name: str | None) -> str:
    if name is None:
        return ""
    try:
        return SpooledHook(operator.spooled_conn_id).page_url(kind, name)
    except SpooledError:
        # The task itself has reported it.
        return ""
