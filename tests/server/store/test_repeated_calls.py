"""A call whose answer was lost comes again: its request id gets the answer, and nothing is done."""

from __future__ import annotations

import pytest

from spooled_pipelines.server.core.jobs.settlements import Failure
from spooled_pipelines.server.core.limits.queue_limits import QueueControl, QueueLimits
from spooled_pipelines.server.store import Selector
from spooled_pipelines.server.store.requests import BatchSelector, ControlChange, QueueSelector
from tests.support.store_kit import ORGANIZATION, StoreKit, holder, settle_one

KEPT_SECONDS = 3_600


async def bury(kit: StoreKit) -> None:
    """Let every job that can be claimed die."""
    for job in await kit.claim(100):
        await settle_one(kit.store, ORGANIZATION, holder(job), Failure("boom", False))


@pytest.mark.parametrize("selector", [QueueSelector("q", "r"), BatchSelector("b", None, "r")])
async def test_a_repeated_cancel_spares_what_came_since(kit: StoreKit, selector: Selector) -> None:
    await kit.open_batch()
    await kit.add("b", "1", "2", "3")
    assert (await kit.store.cancel(ORGANIZATION, selector)).cancelled == 3
    await kit.add("b", "4", number=1)
    assert (await kit.store.cancel(ORGANIZATION, selector)).cancelled == 3
    assert await kit.queue_counts() == {"pending": 1, "cancelled": 3}
    another = selector._replace if False else type(selector)
    fresh = another(*(["q", "s"] if another is QueueSelector else ["b", None, "s"]))
    assert (await kit.store.cancel(ORGANIZATION, fresh)).cancelled == 1


@pytest.mark.parametrize("selector", [QueueSelector("q", "r"), BatchSelector("b", None, "r")])
async def test_a_repeated_retry_leaves_what_died_since(kit: StoreKit, selector: Selector) -> None:
    await kit.open_batch()
    await kit.add("b", "1", "2")
    await bury(kit)
    assert (await kit.store.retry(ORGANIZATION, selector)).retried == 2
    await bury(kit)
    assert (await kit.store.retry(ORGANIZATION, selector)).retried == 2
    assert await kit.queue_counts() == {"deadletter": 2}


async def test_a_repeated_change_does_not_undo_a_later_one(kit: StoreKit) -> None:
    limits = QueueLimits(max_in_flight=5)
    changes = [
        ControlChange(paused=True, request_id="1"),
        ControlChange(limits=limits, request_id="2"),
    ]
    for change in changes:
        await kit.store.set_control(ORGANIZATION, "q", change)
    await kit.store.set_control(ORGANIZATION, "q", ControlChange(False, QueueLimits()))
    for change in changes:
        kept = await kit.store.set_control(ORGANIZATION, "q", change)
        assert kept == QueueControl(QueueLimits(), paused=False)


async def test_a_request_id_is_one_organizations(kit: StoreKit) -> None:
    await kit.enqueue()
    await kit.store.cancel("other", QueueSelector("q", "r"))
    assert (await kit.store.cancel(ORGANIZATION, QueueSelector("q", "r"))).cancelled == 1


async def test_request_ids_are_kept_for_an_hour(kit: StoreKit) -> None:
    await kit.store.cancel(ORGANIZATION, QueueSelector("q", "old"))
    kit.clock.advance(KEPT_SECONDS + 1)
    await kit.store.cancel(ORGANIZATION, QueueSelector("q", "new"))
    await kit.enqueue()
    assert (await kit.store.cancel(ORGANIZATION, QueueSelector("q", "new"))).cancelled == 0
    assert (await kit.store.cancel(ORGANIZATION, QueueSelector("q", "old"))).cancelled == 1
