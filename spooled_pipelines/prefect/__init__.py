"""The door to Prefect: a block with credentials, tasks that enqueue and wait, and suspension."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spooled_pipelines._lazy import attach

if TYPE_CHECKING:
    from spooled_pipelines.prefect.credentials import SpooledCredentials
    from spooled_pipelines.prefect.spooled_batch import SpooledBatch
    from spooled_pipelines.prefect.suspension import (
        cancel_batches,
        resume_settled_flows,
        suspend_until_settled,
    )
    from spooled_pipelines.prefect.tasks import (
        aenqueue_batch,
        await_batch,
        enqueue_batch,
        materialize_batch,
        wait_for_batch,
    )

__all__ = [
    "SpooledBatch",
    "SpooledCredentials",
    "aenqueue_batch",
    "await_batch",
    "cancel_batches",
    "enqueue_batch",
    "materialize_batch",
    "resume_settled_flows",
    "suspend_until_settled",
    "wait_for_batch",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "prefect.credentials": "SpooledCredentials",
        "prefect.spooled_batch": "SpooledBatch",
        "prefect.suspension": "cancel_batches resume_settled_flows suspend_until_settled",
        "prefect.tasks": "aenqueue_batch await_batch enqueue_batch materialize_batch "
        "wait_for_batch",
    },
    extra="prefect",
)
