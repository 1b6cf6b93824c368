"""Results while a batch is worked on: each job once, also resumed elsewhere, in flat memory."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines import AsyncSpooledClient, Job, SpooledClient, connect
from spooled_pipelines.batch.outcome.place_set import PlaceSet
from spooled_pipelines.errors import InvalidArgumentError
from tests.support import forked, programs
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually


def numbers(batches: Iterable[pa.RecordBatch]) -> list[int]:
    return [n for rows in batches for n in rows["n"].to_pylist()]


def claimed(client: SpooledClient, queue: str, limit: int = 100) -> list[Job]:
    return client.dequeue(queue, "w", batch_size=limit)


def complete(client: SpooledClient, jobs: Iterable[Job]) -> None:
    for job in jobs:
        client.complete(job, result={"n": job.payload["id"]})


def test_results_come_while_the_batch_is_worked_on(typed_client: SpooledClient, queue: str) -> None:
    batch = typed_client.enqueue_batch([{"id": n} for n in range(60)], queue, key="id")
    jobs = claimed(typed_client, queue)
    settled = batch.as_settled(payload=True)
    complete(typed_client, jobs[10:20])
    first = next(settled)
    assert not batch.stats().settled
    assert first.schema.names == ["id", "row", "job_id", "status", "error", "n"]
    typed_client.fail(jobs[0], "broken", retry=False)
    complete(typed_client, [*jobs[30:], *jobs[1:10], *jobs[20:30]])
    rest = list(settled)
    found = numbers([first, *rest])
    assert sorted(n for n in found if n is not None) == list(range(1, 60))
    whole = pa.Table.from_batches([first, *rest])
    assert whole["id"].combine_chunks().value_counts().field("counts").to_pylist() == [1] * 60
    (dead,) = [line for line in whole.to_pylist() if line["status"] == "deadletter"]
    assert (dead["id"], dead["error"]) == (0, "broken")
    # Who comes later gets all of it at once.
    assert len(numbers(batch.as_settled())) == 60


def test_another_process_goes_on_behind_a_cursor(typed_client: SpooledClient, queue: str) -> None:
    batch = typed_client.enqueue_batch([{"id": n} for n in range(40)], queue, key="id")
    jobs = claimed(typed_client, queue)
    complete(typed_client, jobs[5:15])
    with batch.as_settled() as settled:
        before = numbers([next(settled)])
        cursor = settled.cursor
    complete(typed_client, [*jobs[:5], *jobs[15:]])
    address, api_key = typed_client.settings.address, typed_client.settings.api_key
    with connect(address, api_key=api_key) as other:
        after = numbers(other.batch(batch.id).as_settled(after=cursor))
    assert sorted(before + after) == list(range(40))
    # Nothing is left, also for one that has seen the end.
    ended = batch.as_settled(after=cursor)
    list(ended)
    assert list(batch.as_settled(after=ended.cursor)) == []


def test_jobs_that_joined_before_the_place_where_it_was_are_not_passed_over(
    typed_client: SpooledClient, queue: str
) -> None:
    typed_client.enqueue_batch([{"id": 0}], queue)
    batch = typed_client.enqueue_batch([{"id": n} for n in (1, 2, 3, 0)], queue)
    complete(typed_client, claimed(typed_client, queue))
    # As it was when only the first rows were in, and all of them settled.
    places = PlaceSet()
    places.low = 2**40
    assert sorted(numbers(batch.as_settled(after=places.to_text(batch.id)))) == [0, 1, 2, 3]


async def test_asyncio_gives_the_same(server: ServerProcess, queue: str) -> None:
    async with AsyncSpooledClient(server.address, api_key=server.api_key) as client:
        batch = await client.enqueue_batch([{"id": n} for n in range(9)], queue, key="id")
        for job in await client.dequeue(queue, "w", batch_size=100):
            await client.complete(job, result={"n": job.payload["id"]})
        schema: Any = {"n": pa.int16()}
        found = [rows async for rows in batch.as_settled(schema=schema)]
        assert (numbers(found), found[0].schema.field("n").type) == ([*range(9)], pa.int16())


def test_what_cannot_be_meant_is_refused(
    client: SpooledClient, plain_server: ServerProcess, queue: str
) -> None:
    batch = client.enqueue_batch([{"id": 1}], queue)
    with pytest.raises(InvalidArgumentError, match="must be the cursor of an earlier"):
        batch.as_settled(after="1.b.nothing")
    cursor = client.batch("other").as_settled().cursor
    with pytest.raises(InvalidArgumentError, match="cursor of batch other"):
        batch.as_settled(after=cursor)
    with connect(plain_server.address, api_key=plain_server.api_key) as plain:
        there = plain.enqueue_batch([{"id": 1}], queue)
        with pytest.raises(InvalidArgumentError, match="as_settled"):
            next(there.as_settled())


# About where a block of bits ends, in each of three.
_places = st.integers(1, 9) | st.integers(8_180, 8_200) | st.integers(16_380, 16_390)


@given(st.lists(st.lists(_places, max_size=20), max_size=6), st.booleans())
def test_a_set_of_places_is_a_set_and_a_text(lots: list[list[int]], is_full: bool) -> None:
    places, expected = PlaceSet(), set[int]()
    for lot in [[*range(8_192)], *lots] if is_full else lots:
        places.update(lot)
        expected.update(lot)
        places.low = max(lot, default=0)
        places = PlaceSet.of_text(places.to_text("b.x"), "b.x")
        assert places.low == max(lot, default=0)
        assert len(places) == len(expected)
        assert all((n in places) == (n in expected) for n in (*range(1, 9), *range(8_180, 16_400)))


def test_a_cursor_has_a_bit_for_each_job_at_most() -> None:
    order = list(range(100_000))
    random.Random(1).shuffle(order)
    places = PlaceSet()
    places.update(order[:50_000])
    assert len(places.to_text("b")) < 100_000 / 6 + 1_500
    places.update(order[50_000:])
    assert len(places.to_text("b")) < 100


def test_a_reader_that_is_killed_goes_on_from_its_cursor(
    server: ServerProcess, queue: str, tmp_path: Path
) -> None:
    """Each of its lines is written at once: rows, and the cursor behind them."""
    file = tmp_path / "read.jsonl"
    with connect(server.address, api_key=server.api_key) as client:
        batch = client.enqueue_batch([{"id": n} for n in range(80)], queue, key="id")
        jobs = claimed(client, queue)
        random.Random(1).shuffle(jobs)
        arguments = (server.address, server.api_key, batch.id, str(file))
        command = programs.command("settled_reader", *arguments)
        for kill in range(4):
            reader = forked.Popen(command, env=programs.environment())
            lines = len(read_lines(file))
            complete(client, jobs[20 * kill : 20 * kill + 14])
            eventually(lambda seen=lines: len(read_lines(file)) > seen)
            # Settled while it is being killed.
            complete(client, jobs[20 * kill + 14 : 20 * kill + 17])
            reader.kill()
            reader.wait()
            complete(client, jobs[20 * kill + 17 : 20 * kill + 20])
        last = forked.Popen(command, env=programs.environment())
        assert last.wait(30) == 0
    read = [number for line in read_lines(file) for number in line["n"]]
    assert sorted(read) == list(range(80))


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Those that are whole."""
    text = file.read_text() if file.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
