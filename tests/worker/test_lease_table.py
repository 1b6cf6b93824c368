"""The table of leases."""

from __future__ import annotations

from dataclasses import replace

from spooled_pipelines.types import Job, JobStatus
from spooled_pipelines.worker.jobs.lease_table import LeaseTable
from spooled_pipelines.worker.jobs.outcome import Completed

JOB = Job(id="j1", queue_name="q", status=JobStatus.PROCESSING, payload={})


def test_a_lease_is_due_when_a_third_has_passed_and_again_a_third_later() -> None:
    leases = LeaseTable(lease_seconds=30)
    job = leases.add(JOB, claimed_at=100.0)
    assert leases.due(109.9) == []
    assert leases.due(110.0) == [job]
    leases.renewed(job, 110.0)
    assert leases.due(119.9) == []
    assert leases.due(120.0) == [job]


def test_a_lease_that_ran_out_unnoticed_is_lost_by_the_clock() -> None:
    leases = LeaseTable(lease_seconds=30)
    job = leases.add(JOB, claimed_at=100.0)
    assert not job.has_lost_lease(129.9)
    assert job.has_lost_lease(130.0)
    leases.renewed(job, 120.0)
    assert not job.has_lost_lease(149.9)


def test_no_lease_is_renewed_of_a_job_that_is_lost_or_done() -> None:
    leases = LeaseTable(lease_seconds=30)
    lost, done = (leases.add(JOB, claimed_at=0.0) for _ in range(2))
    lost.lost = True
    leases.finish([(done, Completed(None))])
    assert leases.due(1_000.0) == []


def test_a_finished_job_keeps_its_lease_while_its_outcome_cannot_be_sent() -> None:
    leases = LeaseTable(lease_seconds=30)
    done = leases.add(JOB, claimed_at=0.0)
    leases.finish([(done, Completed(None))])
    leases.watched_at = 10.0
    assert leases.due(10.5) == []
    assert leases.due(12.0) == [done]


def test_leases_of_a_loop_that_hangs_are_renewed_while_a_handler_has_time() -> None:
    leases = LeaseTable(lease_seconds=30)
    running = leases.add(replace(JOB, timeout_seconds=300), claimed_at=0.0)
    waiting = leases.add(JOB, claimed_at=0.0)
    running.started_at = leases.watched_at = 0.0
    assert leases.due(299.0) == [running, waiting]
    assert leases.due(301.0) == []
    # The loop lives: the watchdog ends the handler.
    leases.watched_at = 300.0
    assert leases.due(301.0) == [running, waiting]


def test_a_job_that_came_back_is_held_beside_its_old_run() -> None:
    leases = LeaseTable(lease_seconds=30)
    old = leases.add(JOB, claimed_at=0.0)
    new = leases.add(JOB, claimed_at=40.0)
    assert (len(leases), leases.unfinished) == (2, 2)
    leases.remove([old])
    assert list(leases) == [new]
    leases.finish([(new, Completed(None))])
    assert (len(leases), leases.unfinished) == (1, 0)
    leases.remove([new])
    leases.remove([new])
    assert (len(leases), leases.unfinished) == (0, 0)
