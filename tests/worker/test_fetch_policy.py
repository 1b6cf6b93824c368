"""How much a worker asks for."""

from __future__ import annotations

import pytest

from spooled_pipelines.worker.fetching.fetch_policy import (
    CHUNKS,
    PAYLOAD_BYTES_MAX,
    PREFETCH_MAX,
    UNACKNOWLEDGED_MAX,
    Load,
    RateEstimate,
    jobs_to_fetch,
    request_sizes,
)
from spooled_pipelines.worker.retry import Backoff


def test_a_slow_worker_asks_for_its_free_slots_alone() -> None:
    assert jobs_to_fetch(Load(unfinished=0, unacknowledged=0), concurrency=4, rate=0.4) == 4
    assert jobs_to_fetch(Load(unfinished=3, unacknowledged=0), concurrency=4, rate=0.4) == 1
    assert jobs_to_fetch(Load(unfinished=4, unacknowledged=0), concurrency=4, rate=0.4) == 0


def test_a_fast_worker_fetches_ahead_in_large_request_sizes() -> None:
    busy = Load(unfinished=100, unacknowledged=20)
    assert jobs_to_fetch(busy, concurrency=4, rate=4_000) == 4 + PREFETCH_MAX - 100
    assert jobs_to_fetch(Load(0, 0), concurrency=5_000, rate=0) == 1_000
    assert request_sizes(300) == [100, 100, 100]
    assert request_sizes(205) == [100, 100, 5]
    assert request_sizes(0) == []
    nearly_full = Load(unfinished=4 + PREFETCH_MAX - 10, unacknowledged=20)
    assert jobs_to_fetch(nearly_full, concurrency=4, rate=4_000) == 0


@pytest.mark.parametrize("rate", [0, 1, 100, 10_000, 1e9])
@pytest.mark.parametrize("unfinished", [0, 3, 50, 600])
def test_what_is_fetched_ahead_is_bounded(rate: float, unfinished: int) -> None:
    asked = jobs_to_fetch(Load(unfinished, 0), concurrency=8, rate=rate)
    assert 0 <= asked <= 8 + PREFETCH_MAX
    assert not asked or unfinished + asked <= 8 + PREFETCH_MAX


def test_nothing_is_taken_while_too_many_results_wait_for_the_server() -> None:
    assert jobs_to_fetch(Load(0, UNACKNOWLEDGED_MAX), concurrency=8, rate=1_000) == 0


def test_chunks_are_fetched_by_pace_and_bytes() -> None:
    quick = 40_000
    assert jobs_to_fetch(Load(0, 0), concurrency=8, rate=quick, limits=CHUNKS) == 8 + quick // 4
    assert jobs_to_fetch(Load(0, 0), concurrency=8, rate=0.4, limits=CHUNKS) == 8
    assert request_sizes(4_500, CHUNKS) == [2_000, 2_000, 500]
    # Results of half a second may wait, and payloads may take so much memory.
    assert jobs_to_fetch(Load(0, quick // 2 - 1), concurrency=8, rate=quick, limits=CHUNKS)
    assert not jobs_to_fetch(Load(0, quick // 2), concurrency=8, rate=quick, limits=CHUNKS)
    full = Load(0, 0, PAYLOAD_BYTES_MAX)
    assert not jobs_to_fetch(full, concurrency=8, rate=quick, limits=CHUNKS)


def test_the_pace_follows_what_was_done_of_late_and_forgets() -> None:
    rate = RateEstimate(0.0)
    for tick in range(100):
        rate.record(10, tick / 10)
    assert rate.rate(9.9) == pytest.approx(100, rel=0.15)
    assert rate.rate(15.0) < 1


def test_the_pace_is_known_soon_after_work_begins_also_after_a_pause() -> None:
    rate = RateEstimate(0.0)
    for start in (100.0, 200.0):
        assert rate.rate(start) < 1
        rate.begin(start)
        for tick in range(1, 3):
            rate.record(100, start + tick / 10)
        assert rate.rate(start + 0.2) == pytest.approx(1_000, rel=0.1)
    # A short lull is no new beginning, and the first job alone promises little.
    rate.begin(200.3)
    assert rate.rate(200.3) > 500
    rate.begin(300.0)
    rate.record(1, 300.000_1)
    assert rate.rate(300.000_1) < 25


def test_backing_off_grows_to_its_limit_with_jitter_and_starts_again() -> None:
    backoff = Backoff(0.1, 2.0)
    delays = [backoff.next() for _ in range(2_000)]
    assert all(0.05 <= delay <= 0.1 for delay in delays[:1])
    assert all(1.0 <= delay <= 2.0 for delay in delays[10:])
    assert len(set(delays[10:])) > 100
    backoff.reset()
    assert backoff.next() <= 0.1
