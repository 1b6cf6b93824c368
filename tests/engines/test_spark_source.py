"""Spark's own way in and out: a data source, on the same cluster as the suite of all engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines import SpooledClient
from spooled_pipelines.engines import spark as spooled_spark
from tests.support.engine_of_spark import Spark, started
from tests.support.server_process import ServerProcess

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
]


@pytest.fixture(scope="module")
def spark() -> Iterator[Spark]:
    from spooled_pipelines.engines.spark_source import SpooledDataSource

    with started() as running:
        running.session.dataSource.register(SpooledDataSource)
        yield running


@pytest.fixture
def written(spark: Spark, server: ServerProcess, queue: str, tmp_path: Path) -> Any:
    """Writes so many rows to the queue; returns the writer's own way to be read again."""
    key = tmp_path / "key"
    key.write_text(server.api_key)

    def write(rows: int, mode: str = "append", **options: str) -> None:
        frame = spark.frame([{"id": n, "text": f"row {n}"} for n in range(rows)], 3)
        given = {
            "address": server.address,
            "api_key_file": str(key),
            "queue": queue,
            "name": "n",
            "key": "id",
            **options,
        }
        frame.write.format("spooled").mode(mode).options(**given).save()

    write.options = {"address": server.address, "api_key_file": str(key)}  # type: ignore[attr-defined]
    return write


def test_a_frame_is_written_and_its_results_are_read(
    spark: Spark, client: SpooledClient, queue: str, written: Any
) -> None:
    written(50)
    written(50)
    assert client.queue_stats(queue).pending == 50
    jobs = client.dequeue(queue, "w", batch_size=100)
    for job in jobs:
        client.complete(job, result={"twice": job.payload["id"] * 2})
    batch = client.open_batch("n", queue, key="id").id
    reader = spark.session.read.format("spooled").options(**written.options).option("batch", batch)
    rows = reader.load().collect()
    assert {row.status for row in rows} == {"completed"}
    assert sorted(row.result for row in rows) == sorted(f'{{"twice": {2 * n}}}' for n in range(50))
    named = reader.schema("job_id string, twice bigint").load().collect()
    assert sorted(row.twice for row in named) == [2 * n for n in range(50)]


def test_overwriting_starts_the_batch_over(client: SpooledClient, queue: str, written: Any) -> None:
    written(20)
    written(20, mode="overwrite")
    assert client.queue_stats(queue).pending == 20
    assert client.queue_stats(queue).total == 40


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"api_key": "sp_test_x"}, "there is no option for the key itself"),
        ({"prority": "1"}, "there is no option 'prority'"),
        ({"queue": ""}, "is missing"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    written: Any, option: dict[str, str], says: str
) -> None:
    with pytest.raises(Exception, match=says):
        written(1, **option)


def test_an_epoch_of_a_stream_that_comes_twice_is_harmless(
    spark: Spark, client: SpooledClient, queue: str, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    spark.frame([{"id": n, "text": "x"} for n in range(30)], 2).write.json(str(source))

    def send(frame: Any, epoch: int) -> None:
        for _ in range(2):
            name = f"stream-{epoch}"
            spooled_spark.enqueue(frame, queue, client=client, name=name, key="id")

    stream = spark.session.readStream.schema("id bigint, text string").json(str(source))
    query = stream.writeStream.foreachBatch(send).trigger(availableNow=True)
    query.option("checkpointLocation", str(tmp_path / "checkpoint")).start().awaitTermination()
    assert client.queue_stats(queue).pending == 30
