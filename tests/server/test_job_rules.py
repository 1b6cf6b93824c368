"""`transition` is docs/states.md as code: every pair of state and event ends as the page says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines.server.core.jobs.counter_deltas import CounterDeltas, LockedJob
from spooled_pipelines.server.core.jobs.records import Counts, Status
from spooled_pipelines.server.core.jobs.rules import (
    Cancel,
    Claim,
    Discard,
    Due,
    Event,
    JobState,
    LeaseExpiry,
    Purge,
    Renewal,
    Retry,
    fail_outcome,
    transition,
    why_not_held,
)
from spooled_pipelines.server.core.jobs.settlements import (
    Completion,
    Death,
    Failure,
    GiveBack,
    LeaseHolder,
)

PAGE = Path(__file__).parents[2] / "docs" / "states.md"
NOW, LATER, BEFORE = 1_000_000, 1_060_000, 990_000


def rows() -> dict[tuple[str, str], str]:
    """(state, event) to the state after it, as the page's first table has them."""
    section = PAGE.read_text(encoding="utf-8").split("## A job's life\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {(state, event): after for state, event, after in cells}


ROWS = rows()


def leased(retry_count: int) -> JobState:
    return JobState(
        Status.PROCESSING,
        retry_count,
        max_retries=1,
        started_at=BEFORE,
        lease_expires_at=LATER,
        worker_id="w",
        lease_id="l",
    )


STATES: dict[str, JobState] = {
    "scheduled": JobState(Status.SCHEDULED, 0, 1, due_at=LATER, scheduled_at=LATER),
    "pending": JobState(Status.PENDING, 0, 1),
    "waiting": JobState(Status.PENDING, 1, 1, due_at=LATER, last_error="boom"),
    "processing": leased(0),
    "processing, on its last try": leased(1),
    "processing, delivered too often": leased(0)._replace(deliveries=20),
    "completed": leased(0)._replace(
        status=Status.COMPLETED, completed_at=BEFORE, lease_expires_at=None
    ),
    "deadletter": leased(1)._replace(
        status=Status.DEADLETTER, completed_at=BEFORE, lease_expires_at=None, last_error="boom"
    ),
    "cancelled": JobState(Status.CANCELLED, 0, 1, completed_at=BEFORE),
    "cancelled, not due yet": JobState(
        Status.CANCELLED, 0, 1, scheduled_at=LATER, completed_at=BEFORE
    ),
}
EVENTS: dict[str, Event] = {
    "it is due": Due(),
    "somebody claims it": Claim("w", "l", 1_000),
    "its holder completes it": Completion(b"{}"),
    "its holder fails it": Failure("boom", retry=True),
    "its holder fails it for good": Failure("boom", retry=False),
    "its holder gives it back undelivered": GiveBack(),
    "its holder gives it back unfinished": GiveBack(begun=True),
    "its holder snoozes it": GiveBack(after_ms=60_000),
    "its holder is throttled": GiveBack(after_ms=1_000, throttles=True),
    "its process dies with it alone": Death("died", -9, others=0),
    "its process dies with several": Death("died", 1, others=1),
    "its lease runs out": LeaseExpiry(),
    "its batch is cancelled": Cancel(),
    "its queue is purged": Purge(),
    "its batch is retried": Retry(),
    "its batch is retried with what was cancelled": Retry(cancelled=True),
    "its queue's dead letters are retried": Retry(),
    "it is requeued by itself": Retry(),
    "it is discarded": Discard(),
}


def name_of(job: JobState) -> str:
    return "waiting" if job.is_waiting else Status.NAMES[job.status]


def moment(event: Event) -> int:
    """When the event happens: what was due or leased until then ends at that very moment."""
    return LATER if isinstance(event, Due | LeaseExpiry) else NOW


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("start", STATES)
def test_a_job_becomes_what_the_page_says(start: str, event: str) -> None:
    change = transition(STATES[start], EVENTS[event], moment(EVENTS[event]))
    after = STATES[start] if change is None else change.after
    assert name_of(after) == ROWS.get((start, event), start.partition(",")[0])
    assert (change is None) == ((start, event) not in ROWS)


def test_the_page_names_nothing_that_is_not_tried() -> None:
    assert {state for state, _ in ROWS} <= set(STATES)
    assert {event for _, event in ROWS} <= set(EVENTS)


moments = st.none() | st.integers(0, 2 * NOW)
events = st.one_of(
    st.sampled_from(
        [e for e in EVENTS.values() if not isinstance(e, Claim | Completion | Failure)]
    ),
    st.builds(Claim, st.text(max_size=3), st.text(max_size=3), st.integers(1, 10_000)),
    st.builds(Completion, st.none() | st.binary(max_size=3)),
    st.builds(
        Failure, st.text(max_size=3), st.booleans(), st.one_of(st.none(), st.integers(0, 99))
    ),
    st.builds(Renewal, st.integers(1, 10_000)),
)
Life = tuple[int, int | None, list[tuple[int, Event]]]
lives = st.tuples(st.integers(0, 3), moments, st.lists(st.tuples(st.integers(0, NOW), events)))


def born(max_retries: int, scheduled_at: int | None) -> JobState:
    return JobState(
        Status.PENDING if scheduled_at is None else Status.SCHEDULED,
        0,
        max_retries,
        due_at=scheduled_at,
        scheduled_at=scheduled_at,
    )


@given(lives)
def test_whatever_happens_a_job_is_whole(
    life: Life,
) -> None:
    """Its times, its lease and its tries agree with its status, and the counters with the jobs."""
    max_retries, scheduled_at, steps = life
    job = LockedJob(1, 1, 1, 7, False, True, born(max_retries, scheduled_at), batches=(7, 8))
    deltas, now = CounterDeltas(), 0
    deltas.add_created(1, job.batches, 1, (scheduled_at,))
    for passed, event in steps:
        now += passed
        before = job.state
        deltas.released.clear()
        deltas.apply(job, event, now)
        state = job.state
        is_leased = state.status == Status.PROCESSING
        assert (state.lease_expires_at is not None) == is_leased
        assert state.due_at is None or state.status in (Status.PENDING, Status.SCHEDULED)
        assert (state.status == Status.SCHEDULED) <= (state.due_at is not None)
        settled = (Status.COMPLETED, Status.DEADLETTER, Status.CANCELLED)
        assert (state.completed_at is not None) == (state.status in settled)
        assert state.retry_count <= state.max_retries == max_retries
        if is_leased:
            assert None not in (state.worker_id, state.lease_id, state.started_at)
        assert bool(deltas.released) == (before.status == Status.PROCESSING and not is_leased)
        expected = dict.fromkeys(Counts._fields, 0)
        expected[Status.NAMES[state.status]] = 1
        expected["waiting"] = int(state.is_waiting)
        for counts in (deltas.queues[1], deltas.batches[7], deltas.batches[8]):
            assert dict(zip(Counts._fields, counts, strict=True)) == expected
        dead = sum(deltas.errors.values())
        assert dead == 2 * (state.status == Status.DEADLETTER)


@given(lives)
def test_settled_jobs_are_nobody_s(life: Life) -> None:
    """Who may not settle a job by its lease is refused before anything is decided."""
    state = born(life[0], life[1])
    for now, happened in life[2]:
        change = transition(state, happened, now)
        state = state if change is None else change.after
    refusal = why_not_held(state, LeaseHolder("j", "", state.lease_id or "other"), 0)
    assert (refusal is None) == (
        state.status == Status.PROCESSING
        and (state.lease_expires_at or 0) > 0
        and bool(state.lease_id)
    )


@pytest.mark.parametrize(("tries", "minutes"), [(0, 1), (1, 2), (5, 32), (6, 60), (40, 60)])
def test_pauses_double_up_to_an_hour(tries: int, minutes: int) -> None:
    state = leased(0)._replace(retry_count=tries, max_retries=100)
    change = transition(state, Failure("boom", retry=True), NOW)
    assert change is not None
    assert fail_outcome(change.after, NOW) == (True, minutes * 60)


@pytest.mark.parametrize("name", ["deadletter", "cancelled"])
def test_a_job_that_is_retried_forgets_worker_lease_start_and_end(name: str) -> None:
    change = transition(STATES[name], Retry(cancelled=True), NOW)
    assert change is not None
    after = change.after
    assert (after.worker_id, after.lease_id, after.started_at, after.completed_at) == (None,) * 4
    assert after.retry_count == 0
