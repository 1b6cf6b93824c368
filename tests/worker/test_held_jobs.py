"""The table of leases."""

from __future__ import annotations

from spooled_pipelines.types import Job, JobStatus
from spooled_pipelines.worker.held import Held
from spooled_pipelines.worker.outcome import Completed

JOB = Job(id="j1", queue_name="q", status=JobStatus.PROCESSING, payload={})


def test_a_lease_is_due_when_a_third_has_passed_and_again_a_third_later() -> None:
    held = Held(lease_seconds=30)
    job = held.add(JOB, claimed_at=100.0)
    assert held.due(109.9) == []
    assert held.due(110.0) == [job]
    held.renewed(job, 110.0)
    assert held.due(119.9) == []
    assert held.due(120.0) == [job]


def test_a_lease_that_ran_out_unnoticed_is_lost_by_the_clock() -> None:
    held = Held(lease_seconds=30)
    job = held.add(JOB, claimed_at=100.0)
    assert not job.is_lost(129.9)
    assert job.is_lost(130.0)
    held.renewed(job, 120.0)
    assert not job.is_lost(149.9)


def test_no_lease_is_renewed_of_a_job_that_is_lost_or_done() -> None:
    held = Held(lease_seconds=30)
    lost, done = (held.add(JOB, claimed_at=0.0) for _ in range(2))
    lost.lost = True
    held.finish(done, Completed(None))
    assert held.due(1_000.0) == []


def test_a_job_that_came_back_is_held_beside_its_old_run() -> None:
    held = Held(lease_seconds=30)
    old = held.add(JOB, claimed_at=0.0)
    new = held.add(JOB, claimed_at=40.0)
    assert (len(held), held.unfinished) == (2, 2)
    held.remove(old)
    assert list(held) == [new]
    held.finish(new, Completed(None))
    assert (len(held), held.unfinished) == (1, 0)
    held.remove(new)
    held.remove(new)
    assert (len(held), held.unfinished) == (0, 0)
