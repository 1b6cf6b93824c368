"""The names of the batches of a run, which a retry or re-execution of it has to find again."""

from __future__ import annotations

import uuid
from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeAlias

import dagster as dg

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.orchestration.run_batches import maker_of_attempt, run_batch_name
from spooled_pipelines.orchestration.taken_names import TakenNames

RunContext: TypeAlias = (
    dg.AssetExecutionContext | dg.OpExecutionContext | dg.AssetCheckExecutionContext
)
# By run, step and try, queue and name: the call that has enqueued it.
_taken = TakenNames()


def batch_name(context: RunContext) -> str:
    """Return the name of the batch that an op, asset or asset check enqueues.

    A partition has one batch, whichever run materializes it. Without partitions it is the root
    run's, which re-executions keep; a run that is launched for itself has a batch of its own, as
    has each call of an op or asset as a function.
    """
    op = _op_context(context)
    step, job_name, root_run = _step(op)
    if not op.has_partition_key and not op.has_partition_key_range:
        return run_batch_name("dagster", root_run, step)
    if op.has_partition_key:
        partition = op.partition_key
    else:
        partition = f"{op.partition_key_range.start}...{op.partition_key_range.end}"
    return run_batch_name("dagster", "asset" if op.has_assets_def else job_name, step, partition)


@contextmanager
def taken_once(context: RunContext, queue_name: str, name: str) -> Generator[None]:
    """Enqueue within the `with` the only batch of this name in one try of an op.

    Raises:
        InvalidArgumentError: the op has enqueued a batch of this name already.
    """
    op = _op_context(context)
    if _is_called_as_function(op):
        yield
        return
    key = (op.run_id, _step(op)[0], op.retry_number, queue_name, name)
    if not _taken.take(key, uuid.uuid4()):
        raise InvalidArgumentError(
            f"this op has enqueued a batch {name!r} on queue {queue_name!r} already, and rows of "
            "both would count as duplicates of each other: give each a name that stays when the "
            'op is retried, such as name=f"{context.run_id}/north", or enqueue all tables at once, '
            "as a list or generator of them"
        )
    try:
        yield
    except BaseException:
        # The op may try again by itself.
        _taken.release(key)
        raise


def made_by(context: RunContext, *, of_run: bool = False) -> str:
    """Return which job and op make a batch, or which asset, as the batch keeps it.

    Args:
        context: of the op, asset or asset check.
        of_run: whether to tell its runs apart, though not the retries within one.
    """
    op = _op_context(context)
    step, job_name, _ = _step(op)
    step = step.partition("[")[0]
    # An asset is the same in whatever job it is materialized.
    maker = run_batch_name("dagster", step if op.has_assets_def else job_name, step)
    if not of_run:
        return maker
    return maker_of_attempt(maker, uuid.uuid4() if _is_called_as_function(op) else op.run_id)


def _op_context(context: RunContext) -> dg.OpExecutionContext:
    return context if isinstance(context, dg.OpExecutionContext) else context.op_execution_context


def _step(op: dg.OpExecutionContext) -> tuple[str, str, str]:
    """Return the name of a step of the op, the job's name, and the id of the root run."""
    if _is_called_as_function(op):
        return op.op_def.name, "function", uuid.uuid4().hex
    step = f"{op.op_handle}[{key}]" if (key := op.get_mapping_key()) else str(op.op_handle)
    return step, op.run.job_name, op.run.root_run_id or op.run.run_id


def _is_called_as_function(op: dg.OpExecutionContext) -> bool:
    """Whether a test calls the op or asset as a function, outside of any run."""
    try:
        return not op.op_handle
    except dg.DagsterError:
        return True
