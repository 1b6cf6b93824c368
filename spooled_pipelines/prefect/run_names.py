"""The names of the batches of a flow run, which a retry of it has to find again."""

from __future__ import annotations

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext, TaskRunContext

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.orchestration.run_batches import run_batch_name
from spooled_pipelines.orchestration.taken_names import TakenNames

# By flow run, its retries and suspensions, queue and name: the task run that has enqueued it.
_taken = TakenNames()


def batch_name(queue_name: str, given: str | None) -> str:
    """Return the name of the batch that the current task run enqueues.

    It is made of the ids that a retry keeps: the flow run's and the task's name. A task run's id
    is kept by its own retries alone, so where there is a flow run it is not part of the name, and a
    second batch of the same task on the same queue needs a name that the user gives.

    Args:
        queue_name: the batch's queue.
        given: the user's name, which is used as it is.

    Raises:
        InvalidArgumentError: another task run of this flow run has the name already, or may have.
    """
    flow, task = FlowRunContext.get(), TaskRunContext.get()
    if task is None:
        if given is None:
            raise InvalidArgumentError("outside of a task run a batch needs a name: name='...'")
        return given
    if flow is None or flow.flow_run is None:
        return given or run_batch_name("prefect", task.task_run.id)
    if given is None and flow.detached:
        raise InvalidArgumentError(
            "a task that runs in another process than its flow needs a name for its batch, since "
            "nothing tells it from its siblings after a retry: "
            'enqueue_batch(..., name=f"{flow_run.id}/north") (prefect.runtime.flow_run)'
        )
    name = given or run_batch_name("prefect", flow.flow_run.id, task.task.name)
    run = flow.flow_run
    key = (str(run.id), run.run_count, len(_pause_keys(run)), queue_name, name)
    if not _taken.take(key, task.task_run.id):
        raise InvalidArgumentError(
            f"this flow run has enqueued a batch {name!r} on queue {queue_name!r} already, and "
            "rows of both would count as duplicates of each other: give each a name that stays "
            'when the flow is retried, such as name=f"{flow_run.id}/north" '
            "(prefect.runtime.flow_run)"
        )
    return name


def made_by() -> str:
    """Return which flow and task make a batch, as the batch keeps it."""
    flow, task = FlowRunContext.get(), TaskRunContext.get()
    names = (flow and flow.flow and flow.flow.name, task and task.task.name)
    return run_batch_name("prefect", *(name or "" for name in names))


def was_suspended_for(batch_id: str) -> bool:
    """Return whether the flow run was resumed for this batch, and not retried since."""
    return bool(suspensions(batch_id))


def suspensions(batch_id: str) -> list[str]:
    """Return the keys of the current flow run's suspensions for this batch."""
    flow = FlowRunContext.get()
    if flow is None or flow.flow_run is None:
        return []
    return [key for key in _pause_keys(flow.flow_run) if key.startswith(f"spooled/{batch_id}/")]


def _pause_keys(run: FlowRun) -> set[str]:
    return (run.empirical_policy.pause_keys or set()) if run.empirical_policy else set()
