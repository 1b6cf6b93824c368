"""Spark's reader of results, called as a task of Spark calls it, holds few of them at a time."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pyspark.sql.datasource import InputPartition
from pyspark.sql.types import StringType, StructField, StructType

from spooled_pipelines import SpooledClient
from spooled_pipelines.engines.spark_source import SpooledReader
from spooled_pipelines.worker import Worker
from tests.support.server_process import ServerProcess

ROWS = 20_000
TEXT = "result " * 60


def test_the_results_are_never_in_memory_as_a_whole(
    server: ServerProcess, client: SpooledClient, queue: str, tmp_path: Path
) -> None:
    batch = client.enqueue_batch(pa.table({"id": range(ROWS)}), queue, key="id")
    with Worker(server.address, queue, answer, api_key=server.api_key, concurrency=32):
        batch.wait(timeout=240)
    key = tmp_path / "key"
    key.write_text(server.api_key)
    options = {"address": server.address, "api_key_file": str(key), "batch": batch.id}
    schema = StructType([StructField(name, StringType()) for name in ("job_id", "result")])
    before = highest = pa.total_allocated_bytes()
    rows = 0
    for job_id, result in SpooledReader(options, schema).read(InputPartition(0)):
        assert job_id
        assert TEXT in result
        rows += 1
        highest = max(highest, pa.total_allocated_bytes())
    assert rows == ROWS
    assert highest - before < batch.results().nbytes / 2


def answer(job: object) -> dict[str, str]:
    return {"text": TEXT}
