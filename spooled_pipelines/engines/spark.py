"""Spark: the rows of a DataFrame become jobs, one part of the batch for each partition."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark import TaskContext
from pyspark.errors import PySparkException

from spooled_pipelines.engines._parts import Server, add_part, key_to_bring, seal, server_of
from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pyspark import Broadcast
    from pyspark.sql import DataFrame, SparkSession

    from spooled_pipelines.batch.options import OnRerun
    from spooled_pipelines.batch.sync.batch import Batch
    from spooled_pipelines.client import SpooledClient

HOW_TO_BRING_A_KEY = (
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
    **options: Any,
) -> Batch:
    """Each row of a Spark DataFrame becomes a job; returns the sealed batch.

    The executors send their partitions themselves, so the server has to be reachable from them at
    the client's address. A task that Spark tries again, or runs twice (speculation, a lost stage),
    doubles nothing. Give `key=` wherever the rows could come in other partitions the next time, as
    they may after a shuffle: without it a row is one of its partition.

    Args:
        df: the DataFrame. It is computed once.
        queue_name: where the jobs go.
        client: of the server. Its key goes to the executors as a broadcast, which is in no plan,
            no closure and no event log, but for the time of the call in Spark's local folders
            (encrypted there with ``spark.io.encryption.enabled``). An executor that has
            SPOOLED_API_KEY of its own uses that, unless the client was given its key as an
            argument. With Spark Connect no key can be brought: they need their own.
        name: of the batch; the same name and rows are the same jobs.
        api_key_file: a file that holds the key, on every executor.
        on_rerun: as of `enqueue_batch`.
        **options: those of `enqueue_batch` that say how a row becomes a job, such as `key`,
            `payload` or `priority`.

    Raises:
        PythonException: a task failed for good; its text ends with our own error. The batch is
            not sealed, and the same call goes on where it ended.
        InvalidArgumentError: the frame has no rows, or an argument is wrong.
        SpooledError: the driver cannot reach the server.
    """
    server = server_of(client.settings, api_key_file)
    opened = client.open_batch(name, queue_name, on_rerun=on_rerun, **options)
    brought = _bring(df.sparkSession, key_to_bring(server, client.settings))
    task = partial(_add_partition, server, opened.to_dict(), brought)
    try:
        rows = df.mapInArrow(task, "added string").collect()
    finally:
        if brought is not None:
            brought.destroy()
    return seal(opened, (json.loads(row.added) for row in rows))


def results(spark: SparkSession, batch: Batch) -> DataFrame:
    """What became of every job, as a DataFrame with the columns of `Batch.results`.

    The driver reads them; for more than its memory holds, ``spark.read.format("spooled")``.
    """
    return spark.createDataFrame(batch.results())


def part_of_this_task() -> str:
    """The id of the part that this task sends: its partition's number, whichever try it is."""
    context = TaskContext.get()
    if context is None:
        raise InvalidArgumentError("this is no task of Spark's")
    return str(context.partitionId())


def as_reader(batches: Iterator[pa.RecordBatch]) -> pa.RecordBatchReader | None:
    """A partition's batches as one stream; None where it has none."""
    first = next(batches, None)
    if first is None:
        return None
    return pa.RecordBatchReader.from_batches(first.schema, chain([first], batches))


def _add_partition(
    server: Server,
    opened: dict[str, Any],
    brought: Broadcast[str] | None,
    batches: Iterator[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    data = as_reader(batches)
    if data is None:
        return
    key = None if brought is None else brought.value
    added = add_part(server, opened, part_of_this_task(), data, key, HOW_TO_BRING_A_KEY)
    yield pa.record_batch({"added": [json.dumps(added)]})


def _bring(session: SparkSession, key: str | None) -> Broadcast[str] | None:
    if key is None:
        return None
    try:
        return session.sparkContext.broadcast(key)
    except (PySparkException, AttributeError):
        # Spark Connect has no context; a task that finds no key says what to do.
        return None
