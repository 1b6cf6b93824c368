"""Spark: the rows of a DataFrame become jobs, one part of the batch for each partition."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from spooled_pipelines._lazy import needs_extra
from spooled_pipelines.engines._parts import (
    ServerRef,
    add_part,
    api_key_for_workers,
    seal,
    server_ref,
)
from spooled_pipelines.errors import InvalidArgumentError

with needs_extra("spark"):
    from pyspark import TaskContext
    from pyspark.errors import PySparkException

if TYPE_CHECKING:
    from pyspark import Broadcast
    from pyspark.sql import DataFrame, SparkSession
    from typing_extensions import Unpack

    from spooled_pipelines.batch.options.row_options import JobOptions, OnRerun
    from spooled_pipelines.batch.sync.batch import Batch
    from spooled_pipelines.client import SpooledClient

KEY_HINT = (
    "set spark.executorEnv.SPOOLED_API_KEY, or on Kubernetes "
    "spark.kubernetes.executor.secretKeyRef.SPOOLED_API_KEY, or give api_key_file"
)


def enqueue(
    df: DataFrame,
    queue_name: str,
    *,
    client: SpooledClient,
    name: str,
    api_key_file: str | Path | None = None,
    on_rerun: OnRerun = "resume",
    **options: Unpack[JobOptions],
) -> Batch:
    """Enqueue each row of a Spark DataFrame, and return the sealed batch.

    The executors send their partitions themselves, so they must be able to reach the server at the
    client's address. A task that Spark tries again, or runs twice (speculation, a lost stage),
    doubles nothing. Give `key=` wherever the rows could be in other partitions the next time, as
    they may be after a shuffle: without it, a row's identity includes its partition.

    Args:
        df: the DataFrame. It is computed once.
        queue_name: where the jobs go.
        client: of the server. Its key goes to the executors as a broadcast, which is in no plan,
            no closure and no event log, but for the time of the call in Spark's local folders
            (encrypted there with ``spark.io.encryption.enabled``). An executor that has
            SPOOLED_API_KEY of its own uses that, unless the client was given its key as an
            argument. With Spark Connect no key can be passed on: they need their own.
        name: of the batch; the same name and rows are the same jobs.
        api_key_file: a file that holds the key, on every executor.
        on_rerun: as in `enqueue_batch`.
        **options: the options of `enqueue_batch` for a row, such as `key`,
            `payload` or `priority`.

    Raises:
        PythonException: a task failed for good; its text ends with our own error. The batch is
            not sealed, and the same call resumes where it ended.
        InvalidArgumentError: the frame has no rows, or an argument is wrong.
        SpooledError: the driver cannot reach the server.
    """
    server = server_ref(client.settings, api_key_file)
    opened = client.open_batch(name, queue_name, on_rerun=on_rerun, **options)
    api_key = _broadcast(df.sparkSession, api_key_for_workers(server, client.settings))
    task = partial(_add_partition, server, opened.to_dict(), api_key)
    try:
        rows = df.mapInArrow(task, "added string").collect()
    finally:
        if api_key is not None:
            api_key.destroy()
    return seal(opened, (json.loads(row.added) for row in rows))


def results(spark: SparkSession, batch: Batch) -> DataFrame:
    """Return the result of every job as a DataFrame with the columns of `Batch.results`.

    The driver holds all of them in memory; ``spark.read.format("spooled")`` does not.
    """
    return spark.createDataFrame(batch.results())


def part_of_this_task() -> str:
    """Return the id of the part that this task sends: its partition's number, in every try."""
    context = TaskContext.get()
    if context is None:
        raise InvalidArgumentError("this code must run in a task of Spark's")
    return str(context.partitionId())


def as_reader(batches: Iterator[pa.RecordBatch]) -> pa.RecordBatchReader | None:
    """Return a partition's record batches as one stream; None if it has none."""
    first = next(batches, None)
    if first is None:
        return None
    return pa.RecordBatchReader.from_batches(first.schema, chain([first], batches))


def _add_partition(
    server: ServerRef,
    opened: dict[str, Any],
    api_key: Broadcast[str] | None,
    batches: Iterator[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    data = as_reader(batches)
    if data is None:
        return
    key = None if api_key is None else api_key.value
    added = add_part(server, opened, part_of_this_task(), data, key, KEY_HINT)
    yield pa.record_batch({"added": [json.dumps(added)]})


def _broadcast(session: SparkSession, api_key: str | None) -> Broadcast[str] | None:
    if api_key is None:
        return None
    try:
        return session.sparkContext.broadcast(api_key)
    except (PySparkException, AttributeError):
        # Spark Connect has no context; a task that finds no key says what to do.
        return None
