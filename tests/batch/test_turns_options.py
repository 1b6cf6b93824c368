"""`weight=` and `fair_by=`: who takes turns, and what a batch says that waits for its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from spooled_pipelines.errors import InvalidArgumentError, RowsRejectedError
from spooled_pipelines.server.core.jobs.turns import QUANTUM
from tests.support.server_process import ServerProcess


def rows(name: str, jobs: int, **columns: Any) -> list[dict[str, Any]]:
    return [{"of": name, "n": number, **columns} for number in range(jobs)]


def next_jobs(door: Any, queue: str, jobs: int) -> Counter[Any]:
    claimed = door.dequeue(queue, "worker-1", batch_size=jobs)
    return Counter(job.payload["of"] for job in claimed)


@pytest.mark.parametrize("open_door", ["sync", "asyncio"], indirect=True)
def test_a_batch_has_as_many_jobs_of_a_round_as_its_weight_says(
    open_door: Callable[..., Any], server: ServerProcess, queue: str
) -> None:
    door = open_door(server)
    door.enqueue_batch(rows("one", 100), queue, name="one")
    door.enqueue_batch(rows("three", 100), queue, name="three", weight=3)
    assert next_jobs(door, queue, 4 * QUANTUM) == {"one": QUANTUM, "three": 3 * QUANTUM}


@pytest.mark.parametrize("open_door", ["sync", "asyncio"], indirect=True)
def test_values_of_a_column_take_turns_whichever_batch_they_are_in(
    open_door: Callable[..., Any], server: ServerProcess, queue: str
) -> None:
    door = open_door(server)
    for name in ("b1", "b2", "b3"):
        door.enqueue_batch(rows("a", 40, batch=name), queue, name=name, fair_by="of")
    table = pd.DataFrame([*rows("b", 40), *rows("c", 40)])
    door.enqueue_batch(table, queue, name="b4", fair_by="of", key=["of", "n"])
    assert next_jobs(door, queue, 3 * QUANTUM) == dict.fromkeys("abc", QUANTUM)
    # The column is in the payload, and the same rows by another key are the same jobs.
    again = door.enqueue_batch(rows("a", 40, batch="b1"), queue, name="b1")
    assert again.created == 0


def test_keys_are_texts_numbers_and_nulls(client: Any, queue: str) -> None:
    numbers = pd.DataFrame({"of": ["x"] * 20 + ["own"] * 20, "who": [7.0] * 20 + [None] * 20})
    client.enqueue_batch(numbers, queue, name="numbers", fair_by="who")
    whole = pd.DataFrame({"of": ["x"] * 20, "who": [7] * 20})
    client.enqueue_batch(whole, queue, name="whole", fair_by="who")
    assert next_jobs(client, queue, 2 * QUANTUM) == {"x": QUANTUM, "own": QUANTUM}
    with pytest.raises(InvalidArgumentError, match="no column 'whom'"):
        client.enqueue_batch(whole, queue, fair_by="whom")
    with pytest.raises(InvalidArgumentError, match="texts, numbers or times"):
        client.enqueue_batch([{"who": [1]}], queue, fair_by="who")
    with pytest.raises(InvalidArgumentError, match="weight must be"):
        client.enqueue_batch(whole, queue, weight=0)
    with pytest.raises(RowsRejectedError, match="longer than 255"):
        client.enqueue_batch([{"who": "x" * 256}], queue, fair_by="who")


@pytest.mark.parametrize("open_door", ["sync", "asyncio"], indirect=True)
@pytest.mark.parametrize("option", [{"weight": 2}, {"fair_by": "n"}, {"limit_by": ("n", 1)}])
def test_a_plain_server_refuses_it_before_anything_is_sent(
    open_door: Any, plain_server: ServerProcess, queue: str, option: dict[str, Any]
) -> None:
    plain_client = open_door(plain_server)
    with pytest.raises(InvalidArgumentError, match="batch extension"):
        plain_client.enqueue_batch(rows("a", 3), queue, **option)
    assert plain_client.queue_stats(queue).total == 0


def test_a_batch_that_waits_for_others_says_for_which(client: Any, queue: str) -> None:
    for name in ("first", "second", "third", "fourth"):
        client.enqueue_batch(rows(name, 2 * QUANTUM), queue, name=name, priority=3)
    client.enqueue(queue, {"of": "alone"}, priority=5)
    last = client.enqueue_batch(rows("last", 5), queue, name="last")
    next_jobs(client, queue, 1)
    (stall,) = last.stats().stalls
    assert stall.cause == "behind"
    assert stall.message.startswith(
        f"{8 * QUANTUM} jobs of queue {queue!r} go before the next of these 5: "
    )
    assert f"{2 * QUANTUM} of batch 'first' (" in stall.message
    assert f"{2 * QUANTUM} of 1 other batches" in stall.message
    first = client.enqueue_batch(rows("x", 1), queue, name="x", priority=9)
    assert first.stats().stalls == ()


@pytest.mark.parametrize("open_door", ["sync", "asyncio"], indirect=True)
def test_so_many_jobs_of_a_value_run_at_once(
    open_door: Callable[..., Any], server: ServerProcess, queue: str
) -> None:
    door = open_door(server)
    table = [*rows("a", 5), *rows("b", 5), {"of": None, "n": 1}]
    batch = door.enqueue_batch(table, queue, name="limited", limit_by=("of", 2))
    # What the limit holds back can be listed, and is due at no known time.
    assert [job.due_at for job in door.jobs(queue)] == [None] * len(table)
    assert next_jobs(door, queue, 100) == {"a": 2, "b": 2, None: 1}
    (stall,) = door.batch(batch.id).stats().stalls
    assert stall.cause == "limited"
    assert stall.message.startswith("At most 2 jobs of each 'of' run at once: 6 jobs wait")
    with pytest.raises(InvalidArgumentError, match=r'such as \("customer", 2\)'):
        door.enqueue_batch(table, queue, limit_by="of")
    with pytest.raises(InvalidArgumentError, match="limit_by must be"):
        door.enqueue_batch(table, queue, limit_by=("of", 0))
