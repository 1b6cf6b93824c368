"""What happens to jobs: enqueued, claimed, settled, given back, and time passes."""

from __future__ import annotations

import itertools
from dataclasses import astuple
from typing import Any

from hypothesis import strategies as st

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.jobs.records import Enqueued, WorkerRecord
from spooled_pipelines.server.core.jobs.settlements import (
    Act,
    Completion,
    Death,
    FailOutcome,
    Failure,
    GiveBack,
    LeaseHolder,
    Settlement,
)
from spooled_pipelines.server.store.requests import ClaimRequest, Heartbeat
from tests.support.proof.model_records import Job, RefusalError
from tests.support.proof.side_by_side import (
    ERRORS,
    SideBySide,
    act,
    equal,
    keys,
    organizations,
    picks,
    queues,
    workers,
)
from tests.support.store_kit import give_back, settle_one, struct

priorities = st.sampled_from((0, 0, 5, -5, 100))
retries = st.sampled_from((0, 1, 3))
# Seconds from now; below 0 lies in the past.
delays = st.sampled_from((None, None, -1, 0, 1, 60))
leases = st.sampled_from((5, 5, 5, 6, 3600))


RESULT = struct(of="it")
# What may be said in one message with others.
ACTS: dict[str, Act] = {
    "complete": Completion(RESULT),
    "fail": Failure(ERRORS[0], retry=True),
    "bury": Failure(ERRORS[1], retry=False),
    "give up": GiveBack(begun=True),
    "die alone": Death(ERRORS[0], -9, others=0),
    "die": Death(ERRORS[1], 3, others=1),
    "die together": Death(ERRORS[1], 3, others=20),
}
_WHAT = (
    *("complete", "complete", "fail", "fail", "bury", "renew", "give up"),
    *("die alone", "die", "die together"),
)


class JobRules(SideBySide):
    """Jobs, those who do them, and the clock."""

    @act(
        weight=3,
        organization=organizations,
        queue=queues,
        asked=st.lists(st.tuples(st.none() | keys, priorities, retries, delays), max_size=4),
    )
    def enqueue(self, organization: str, queue: str, asked: list[Any]) -> None:
        new = [self.new_job(row, queue) for row in asked]
        stored = self.together(self.kit.store.enqueue(organization, job) for job in new)
        for job, outcome in zip(new, stored, strict=True):
            assert isinstance(outcome, Enqueued)
            made, created = self.model.enqueue(organization, job)
            assert created == outcome.created
            self.name(made, outcome.job_id)

    @act(
        weight=5,
        pick=picks,
        claims=st.lists(st.tuples(workers, leases, st.integers(1, 5)), min_size=1, max_size=3),
    )
    def claim(self, pick: int, claims: list[Any]) -> None:
        organization, queue = self.topic(pick, lambda job: job.claimable)
        claims = [(worker, 1000 * seconds, limit) for worker, seconds, limit in claims]
        if not self.model.of(organization, queue):
            # A claim of a queue that nobody knows does not look at what is due.
            assert self.run(self.kit.store.sweep()) == self.model.sweep()
        claim = self.kit.store.claim
        lots = self.together(claim(organization, ClaimRequest(queue, *one)) for one in claims)
        for one, records in zip(claims, lots, strict=True):
            expected = self.model.claim(organization, queue, *one)
            assert [record.job_id for record in records] == [job.job_id for job in expected]
            for record, job in zip(records, expected, strict=True):
                assert record.lease_id
                assert record.lease_id not in {holder.lease_id for _, holder in self.leases}
                job.lease_id = record.lease_id
                holder = LeaseHolder(job.job_id, record.worker_id or "", record.lease_id)
                self.leases.append((organization, holder))
        # Only now: another claim of the same moment changes no job of this one.
        for record in itertools.chain(*lots):
            self.compare_job(record, self.known[record.job_id])

    @act(
        weight=6,
        when=lambda self: self.leases,
        acts=st.lists(
            st.tuples(
                picks,
                st.sampled_from(("right", "right", "right", "", "wrong")),
                st.sampled_from(("right", "right", "right", "", "wrong")),
                st.sampled_from(_WHAT),
            ),
            min_size=1,
            max_size=4,
        ),
        stranger=st.sampled_from((False,) * 5 + (True,)),
        at_once=st.booleans(),
    )
    def settle(self, acts: list[Any], stranger: bool, at_once: bool) -> None:
        """With the right lease, an old one, a wrong one or none.

        `stranger`: another's key. `at_once`: in one message, where all are one organization's.
        """
        chosen = []
        for pick, worker, lease, what in acts:
            organization, holder = self.leases[-1 - pick % len(self.leases)]
            given = {"right": holder.worker_id, "wrong": "nobody", "": ""}[worker]
            token = {"right": holder.lease_id, "wrong": "0" * 32, "": ""}[lease]
            if stranger:
                organization = "other" if organization == "acme" else "acme"
            chosen.append((organization, LeaseHolder(holder.job_id, given, token), what))
        settlements = [Settlement(holder, ACTS[what]) for _, holder, what in chosen if what in ACTS]
        if at_once and len(settlements) == len(chosen) and len({one[0] for one in chosen}) == 1:
            outcomes = self.run(self.kit.store.settle(chosen[0][0], settlements))
        else:
            outcomes = self.together(self._settle(*one) for one in chosen)
        for (organization, holder, what), outcome in zip(chosen, outcomes, strict=True):
            self.compare(outcome, equal, self._expected(organization, holder, what))

    @act(
        when=lambda self: self.leases, pick=picks, after_ms=st.sampled_from((None, None, 1, 5_000))
    )
    def give_back(self, pick: int, after_ms: int | None) -> None:
        """Unfinished: at once, or snoozed."""
        organization, holder = self.leases[-1 - pick % len(self.leases)]
        self.run(give_back(self.kit.store, organization, [holder], after_ms))
        try:
            job = self.known[holder.job_id]
            held = self.model.check_holder(job, holder.worker_id, holder.lease_id)
            self.model.give_back(held, after_ms)
        except RefusalError:
            return

    @act(
        when=lambda self: self.leases,
        pick=picks,
        after_ms=st.sampled_from((None, None, 1_000, 40_000)),
    )
    def throttle(self, pick: int, after_ms: int | None) -> None:
        """The job came too fast."""
        organization, holder = self.leases[-1 - pick % len(self.leases)]
        slower = Settlement(holder, GiveBack(after_ms=after_ms, throttles=True))
        self.run(self.kit.store.settle(organization, [slower]))
        try:
            job = self.known[holder.job_id]
            held = self.model.check_holder(job, holder.worker_id, holder.lease_id)
            self.model.throttle(held, after_ms)
        except RefusalError:
            return

    @act(
        weight=3,
        seconds=st.sampled_from((0.001, 1, 5, 5, 6, 60, 60, 3600)),
        sweep=st.sampled_from((False, False, True)),
    )
    def wait(self, seconds: float, sweep: bool) -> None:
        """Without `sweep` the timer is behind."""
        self.kit.clock.advance(seconds)
        self.model.now = self.kit.clock.now()
        if sweep:
            assert self.run(self.kit.store.sweep()) == self.model.sweep()

    @act(now=st.sampled_from((False, False, True)))
    def restart(self, now: bool) -> None:
        if now:
            self.run(self.kit.reopen())
            self.model.turns.restart()
            self.model.keys.restart()

    @act(organization=organizations, worker=workers, queue=queues)
    def register(self, organization: str, worker: str, queue: str) -> None:
        record = WorkerRecord(worker, queue, "h", "python", 1, "1", "{}")
        self.same(
            self.kit.store.register_worker(organization, record),
            lambda: self.model.register(organization, worker, queue),
            equal,
        )

    @act(organization=organizations, worker=workers)
    def heartbeat(self, organization: str, worker: str) -> None:
        self.same(
            self.kit.store.heartbeat(organization, Heartbeat(worker, 1, "healthy", "{}")),
            lambda: self.model.heartbeat(organization, worker),
            equal,
        )

    @act(organization=organizations, worker=workers)
    def deregister(self, organization: str, worker: str) -> None:
        gone = self.run(self.kit.store.deregister_worker(organization, worker))
        assert gone == self.model.deregister(organization, worker)

    async def _settle(self, organization: str, holder: LeaseHolder, what: str) -> Any:
        store = self.kit.store
        try:
            if what == "renew":
                return await store.renew(organization, holder, 9_000)
            return await settle_one(store, organization, holder, ACTS[what])
        except RefusedError as refusal:
            return refusal

    def _expected(self, organization: str, holder: LeaseHolder, what: str) -> Any:
        """What the model makes of it: the outcome, or a RefusalError."""
        job: Job | None = self.known[holder.job_id]
        if job is not None and job.organization != organization:
            job = None
        try:
            job = self.model.check_holder(job, holder.worker_id, holder.lease_id)
        except RefusalError as refusal:
            return refusal
        if what == "complete":
            return self.model.complete(job, RESULT)
        if what == "renew":
            job.lease_expires_at = self.model.now + 9_000
            return job.lease_expires_at
        act = ACTS[what]
        if isinstance(act, Failure):
            seconds = self.model.fail(job, act.error, act.retry)
            return FailOutcome(seconds > 0, seconds)
        if isinstance(act, Death):
            pause = self.model.die(job, *astuple(act))
            return FailOutcome(pause is not None, pause or 0)
        return FailOutcome(False, 0) if self.model.give_up(job) else None
