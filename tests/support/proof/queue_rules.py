"""What operators do: cancel, retry, pause, purge, redrive, forget."""

from __future__ import annotations

from hypothesis import strategies as st

from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.limits.queue_limits import QueueLimits
from spooled_pipelines.server.core.upkeep.retention import KEEP_ALL, Pruner, Retention
from spooled_pipelines.server.store.requests import BatchSelector, ControlChange, QueueSelector
from tests.support.proof import model_control
from tests.support.proof.model_records import Job
from tests.support.proof.side_by_side import (
    ERRORS,
    SideBySide,
    act,
    equal,
    organizations,
    picks,
    queues,
)

# A text that some errors have in them, or all of them.
texts = st.sampled_from(("", "", ERRORS[0][:4], ERRORS[1][:9], "Lease expired", "nothing"))
retentions = st.sampled_from(
    (
        Retention(5, 60),
        Retention(0, None, 0, 0),
        Retention(0, 0, 0, 0),
        Retention(0, 0, 0),
        Retention(0, None, 5, 5),
        Retention(5, 60, 60, 3600),
        Retention(0, 0, 0, 0),
    )
)


class NoUpkeep:
    """Leaves keys alone while jobs are being forgotten step by step."""

    async def take_step(self, _: object) -> None:
        """Nothing."""


def _is_dead(job: Job) -> bool:
    return job.status == Status.DEADLETTER


class QueueRules(SideBySide):
    """Batches and queues, as those see them who run them."""

    @act(pick=picks, generation=st.sampled_from((None, None, 0, 1)))
    def cancel(self, pick: int, generation: int | None) -> None:
        organization, batch = self.batch(pick, lambda job: job.due_at is not None)
        self.same(
            self.kit.store.cancel(organization, BatchSelector(batch, generation)),
            lambda: model_control.cancel_batch(self.model, organization, batch, generation),
            lambda outcome, counts: equal(outcome.counts, counts),
        )

    @act(pick=picks, text=texts)
    def retry(self, pick: int, text: str) -> None:
        organization, batch = self.batch(pick, _is_dead)
        self.same(
            self.kit.store.retry(organization, BatchSelector(batch), text),
            lambda: model_control.retry_batch(self.model, organization, batch, text),
            lambda outcome, retried: equal(outcome.retried, retried),
        )

    @act(organization=organizations, queue=queues, paused=st.sampled_from((True, False, False)))
    def pause(self, organization: str, queue: str, paused: bool) -> None:
        self.run(self.kit.store.set_control(organization, queue, ControlChange(paused=paused)))
        (self.model.paused.add if paused else self.model.paused.discard)((organization, queue))

    @act(
        organization=organizations,
        queue=queues,
        cap=st.sampled_from((None, 1, 2, 4)),
        rate=st.sampled_from((None, None, None, 0.5, 3.0)),
    )
    def limit(self, organization: str, queue: str, cap: int | None, rate: float | None) -> None:
        limits = QueueLimits(rate, None if rate is None else 2, cap)
        change = ControlChange(limits=limits)
        kept = self.run(self.kit.store.set_control(organization, queue, change))
        assert kept.limits == limits
        self.model.caps.set((organization, queue), limits, self.model.now)

    @act(pick=picks)
    def purge(self, pick: int) -> None:
        organization, queue = self.topic(pick, lambda job: job.due_at is not None)
        purged = self.run(self.kit.store.cancel(organization, QueueSelector(queue)))
        assert purged.cancelled == model_control.purge_queue(self.model, organization, queue)

    @act(pick=picks, text=texts)
    def redrive(self, pick: int, text: str) -> None:
        organization, queue = self.topic(pick, _is_dead)
        revived = self.run(self.kit.store.retry(organization, QueueSelector(queue), text))
        assert revived.retried == model_control.redrive(self.model, organization, queue, text)

    @act(weight=2, retention=retentions)
    def forget(self, retention: Retention) -> None:
        """As a server with these settings would, once and again after its pause."""
        upkeep, self.kit.store._key_upkeep = self.kit.store._key_upkeep, NoUpkeep()
        for _ in range(2):
            self.kit.store._pruner = Pruner(retention, self.kit.clock)
            self.run(self.kit.store.sweep())
        self.kit.store._pruner = Pruner(KEEP_ALL, self.kit.clock)
        self.kit.store._key_upkeep = upkeep
        self.model.sweep(upkeep=False)
        model_control.prune(self.model, retention)
