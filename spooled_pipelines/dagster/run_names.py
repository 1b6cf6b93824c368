"""The names of the batches of a run, which a retry or re-execution of it has to find again."""

from __future__ import annotations

from typing import TypeAlias

import dagster as dg

from spooled_pipelines.orchestration.run_batches import run_batch_name

RunContext: TypeAlias = dg.AssetExecutionContext | dg.OpExecutionContext


def batch_name(context: RunContext) -> str:
    """Return the name of the batch that an op or asset enqueues.

    A partition has one batch, whichever run materializes it. Without partitions it is the root
    run's, which re-executions keep; a run that is launched for itself has a batch of its own.
    """
    op = context.op_execution_context if isinstance(context, dg.AssetExecutionContext) else context
    step = f"{op.op_handle}[{key}]" if (key := op.get_mapping_key()) else str(op.op_handle)
    run = op.run
    if not op.has_partition_key and not op.has_partition_key_range:
        return run_batch_name("dagster", run.root_run_id or run.run_id, step)
    if op.has_partition_key:
        partition = op.partition_key
    else:
        partition = f"{op.partition_key_range.start}...{op.partition_key_range.end}"
    of = "asset" if op.has_assets_def else run.job_name
    return run_batch_name("dagster", of, step, partition)


def made_by(context: RunContext) -> str:
    """Return which job and op make a batch, or which asset, as the batch keeps it."""
    op = context.op_execution_context if isinstance(context, dg.AssetExecutionContext) else context
    # An asset is the same in whatever job it is materialized.
    of = str(op.op_handle) if op.has_assets_def else op.run.job_name
    return run_batch_name("dagster", of, op.op_handle)
