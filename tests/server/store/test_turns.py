"""Batches of one queue and one priority take turns, whatever their size and age."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spooled_pipelines.server.core.batches.records import BatchOpening
from spooled_pipelines.server.core.jobs.settlements import Failure
from spooled_pipelines.server.core.jobs.turns import QUANTUM, ROUND, length
from spooled_pipelines.server.store.requests import BatchSelector
from spooled_pipelines.wire.well_known import Struct
from tests.support.store_kit import ORGANIZATION, StoreKit, chunk, give_back, holder, settle_one


async def fill(kit: StoreKit, batch_id: str, jobs: int, number: int = 0, **changes: Any) -> None:
    await kit.open_batch(batch_id)
    names = [f"{batch_id} {number} {row}" for row in range(jobs)]
    await kit.store.add_chunk(ORGANIZATION, chunk(batch_id, names, number, **changes))


async def order(kit: StoreKit, jobs: int, at_once: int = 5) -> list[str]:
    """Of which batches the next jobs are, a few claimed at a time, in the order of the claims."""
    found: list[str] = []
    while len(found) < jobs:
        claimed = await kit.claim(min(at_once, jobs - len(found)))
        assert claimed
        found += [str(Struct.FromString(job.payload or b"")["name"]).split()[0] for job in claimed]
    return found


async def test_a_small_batch_does_not_wait_for_a_large_one(kit: StoreKit) -> None:
    await fill(kit, "large", 100)
    assert await order(kit, 20) == ["large"] * 20
    await fill(kit, "small", 4)
    await fill(kit, "middle", 2 * QUANTUM)
    # What is left of the round, then a turn each.
    left = -20 % QUANTUM
    turns = ["small"] * 4 + ["middle"] * QUANTUM + ["large"] * QUANTUM + ["middle"] * QUANTUM
    assert await order(kit, left + len(turns)) == ["large"] * left + turns
    assert set(await order(kit, 30)) == {"large"}


async def test_jobs_without_a_batch_take_turns_together(kit: StoreKit) -> None:
    await fill(kit, "a", 3 * QUANTUM)
    for number in range(2 * QUANTUM):
        name = f"alone {number}"
        await kit.enqueue(payload=chunk("x", [name]).payloads[0])
    expected = [name for name in ("a", "alone") * 2 for _ in range(QUANTUM)]
    assert await order(kit, 5 * QUANTUM) == [*expected, *["a"] * QUANTUM]


async def test_priority_goes_before_turns(kit: StoreKit) -> None:
    await fill(kit, "low", 20)
    await fill(kit, "high", 20, priorities=5)
    await fill(kit, "mixed", 4, priorities=[5, 0, 5, 0])
    found = await order(kit, 44)
    assert Counter(found[:22]) == {"high": 20, "mixed": 2}
    assert found[QUANTUM : QUANTUM + 2] == ["mixed"] * 2
    assert Counter(found[22:]) == {"low": 20, "mixed": 2}


async def test_what_failed_or_was_due_later_takes_turns_beside_others(kit: StoreKit) -> None:
    await fill(kit, "failing", 50)
    for job in await kit.claim(50):
        await settle_one(kit.store, ORGANIZATION, holder(job), Failure("no", retry=True))
    later = [kit.clock.now() + 60_000] * 40
    await fill(kit, "later", 40, scheduled_at=later)
    await fill(kit, "other", 3 * QUANTUM)
    kit.clock.advance(61)
    found = await order(kit, 6 * QUANTUM)
    assert Counter(found) == dict.fromkeys(("failing", "later", "other"), 2 * QUANTUM)


async def test_dead_letters_that_are_retried_take_turns_too(kit: StoreKit) -> None:
    await fill(kit, "dead", 50)
    for job in await kit.claim(50):
        await settle_one(kit.store, ORGANIZATION, holder(job), Failure("no", retry=False))
    await fill(kit, "other", 2 * QUANTUM)
    await kit.store.retry(ORGANIZATION, BatchSelector("dead"))
    found = await order(kit, 4 * QUANTUM)
    assert Counter(found) == {"dead": 2 * QUANTUM, "other": 2 * QUANTUM}


async def test_what_was_given_back_goes_first_and_moves_nobody_else(kit: StoreKit) -> None:
    await fill(kit, "a", 100)
    early = await kit.claim(3)
    await order(kit, 60)
    await give_back(kit.store, ORGANIZATION, [holder(job) for job in early])
    # It comes to the round that is served, and not to that of what was given back.
    await fill(kit, "b", 100)
    assert await order(kit, 3) == ["a"] * 3
    found = await order(kit, 30)
    assert abs(found.count("a") - found.count("b")) <= QUANTUM


async def test_rows_that_were_there_already_cost_no_turns(kit: StoreKit) -> None:
    await fill(kit, "a", 100)
    await fill(kit, "b", 100)
    await kit.store.open_batch(ORGANIZATION, BatchOpening("b", "q", ""))
    for number in range(1, 4):
        names = [f"b 0 {row}" for row in range(100)]
        await kit.store.add_chunk(ORGANIZATION, chunk("b", names, number))
    await fill(kit, "b", QUANTUM, number=9)
    await fill(kit, "a", QUANTUM, number=9)
    assert Counter(await order(kit, 200 + 2 * QUANTUM)) == dict.fromkeys("ab", 100 + QUANTUM)
    assert (await kit.claim(1)) == []


@given(st.lists(st.integers(1, 100), min_size=1, max_size=100))
@settings(max_examples=50, deadline=None)
def test_shares_are_those_of_the_weights(weights: list[int]) -> None:
    for weight in weights:
        in_a_round = ROUND / length(weight)
        assert abs(in_a_round / (QUANTUM * weight) - 1) < 0.01
