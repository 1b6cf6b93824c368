"""A store and a plain model of it, side by side: how they are driven and compared."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from spooled_pipelines.server.core.batches.records import BatchRecord, Chunk
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.jobs.records import JobRecord, NewJob, QueueRecord, Status
from spooled_pipelines.server.core.jobs.settlements import LeaseHolder
from spooled_pipelines.server.core.limits.queue_limits import LimitedBy, QueueLimits
from spooled_pipelines.server.core.upkeep.key_upkeep import KeyUpkeep
from tests.support.proof.model import Model
from tests.support.proof.model_records import Batch, Job, RefusalError, counted, moments
from tests.support.store_kit import StoreKit, refused, struct

ORGANIZATIONS, QUEUES, BATCHES, WORKERS = ("acme", "other"), ("q", "r"), ("a", "b"), ("v", "w")
TOPICS = tuple(itertools.product(ORGANIZATIONS, QUEUES))
# Few names, so that they meet; hashes, as clients send them, and others.
KEYS = (*(hashlib.md5(str(n).encode()).hexdigest() for n in range(9)), "k", "F" * 32, "ü" * 9)
ERRORS = ("fail " * 50, "bury " * 50)

organizations = st.sampled_from(("acme", "acme", "acme", "other"))
queues, batches, workers = map(st.sampled_from, (QUEUES, BATCHES, WORKERS))
keys = st.sampled_from(KEYS)
picks = st.integers(0, 11)


class State(NamedTuple):
    """What those who wait should hear of: a batch's is whether it is sealed, and its counts."""

    ready: dict[tuple[str, str], set[int]]
    # The queues of which somebody could claim.
    open: set[tuple[str, str]]
    batches: dict[tuple[str, str], Any]
    # Each leased job with its lease, each job with what it is due for.
    held: set[tuple[str, str | None]]
    due: dict[int, int]


class Stores(Protocol):
    """Where stores come from, and the loop that they live on."""

    loop: asyncio.AbstractEventLoop

    async def take(self) -> StoreKit:
        """An empty store, open."""

    async def give_back(self, kit: StoreKit) -> None:
        """It is needed no more."""


class Act(NamedTuple):
    """Something that may happen, when it may, how often, and what is chosen about it."""

    name: str
    weight: int
    when: Callable[[Any], object]
    arguments: st.SearchStrategy[dict[str, Any]]


def act(
    *,
    weight: int = 1,
    when: Callable[[Any], object] = lambda self: True,
    **arguments: st.SearchStrategy[Any],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Marks a method of a machine as something that may happen.

    No rule of its own: hypothesis leaves most rules out of an example, and an example in which
    nobody claims shows little.
    """

    def mark(method: Callable[..., None]) -> Callable[..., None]:
        chosen = st.fixed_dictionaries(arguments)
        method.act = Act(method.__name__, weight, when, chosen)  # type: ignore[attr-defined]
        return method

    return mark


def _mostly(
    pick: int, likely: Iterable[tuple[str, str]], every: Sequence[tuple[str, str]]
) -> tuple[str, str]:
    found = sorted(likely) if pick < 10 else []
    choices = found or every
    return choices[pick % len(choices)]


def _limited(by: LimitedBy | None) -> LimitedBy | None:
    """None also where a queue has recovered from what slowed it, and nobody claimed since."""
    return None if by == LimitedBy(QueueLimits(), in_flight=False, rate=False) else by


def equal(outcome: object, expected: object) -> None:
    """The plainest comparison."""
    assert outcome == expected


class SideBySide(RuleBasedStateMachine):
    """`stores` has an empty store for each example."""

    def __init__(self, stores: Stores) -> None:
        super().__init__()
        self.stores, self.loop = stores, stores.loop
        self.kit = self.run(stores.take())
        # One that was emptied remembers what keys it had.
        self.kit.store._key_upkeep = KeyUpkeep(self.kit.clock)
        self.model = Model()
        self.model.now = self.kit.clock.now()
        self.before = self.state()
        self.known: dict[str, Job] = {}
        # Every lease that was ever given, in order, and every chunk that was taken in.
        self.leases: list[tuple[str, LeaseHolder]] = []
        self.chunks: list[tuple[str, Chunk]] = []
        self.numbers, self.turns = itertools.count(), itertools.count()
        # What the queues were when they were last looked at.
        self.compared: dict[tuple[str, str], QueueRecord] = {}

    def teardown(self) -> None:
        try:
            self.run(self.compare_all())
        finally:
            self.run(self.stores.give_back(self.kit))

    def run(self, operation: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(operation)

    @rule(data=st.data())
    def something_happens(self, data: st.DataObject) -> None:
        acts = [one for one in self.acts() if one.when(self)]
        weighted = [number for number, one in enumerate(acts) for _ in range(one.weight)]
        chosen = acts[data.draw(st.sampled_from(weighted))]
        getattr(self, chosen.name)(**data.draw(chosen.arguments, label=chosen.name))
        self.model.give_places()

    def topic(self, pick: int, likely: Callable[[Job], bool]) -> tuple[str, str]:
        """Mostly a queue that has such jobs: organization and name."""
        topics = {
            (job.organization, job.asked.queue_name) for job in self.model.jobs if likely(job)
        }
        return _mostly(pick, topics, TOPICS)

    def batch(self, pick: int, likely: Callable[[Job], bool]) -> tuple[str, str]:
        """Mostly a batch that has such jobs: organization and id."""
        newest = self.model.batches.items()
        keys = {key for key, one in newest if any(map(likely, self.model.of(key[0], batch=one)))}
        return _mostly(pick, keys, list(itertools.product(ORGANIZATIONS, BATCHES)))

    @classmethod
    def acts(cls) -> list[Act]:
        """Everything that may happen."""
        methods = (getattr(cls, name) for name in dir(cls))
        return [method.act for method in methods if hasattr(method, "act")]

    # What must hold

    @invariant()
    def counters_are_right(self) -> None:
        self.run(self.compare_counters())

    async def compare_counters(self) -> None:
        """Two readers beside each other: most of it is waiting for other threads and processes."""
        mismatches, _ = await asyncio.gather(self.kit.store.recount(), self.compare_records())
        assert mismatches == []

    async def compare_records(self) -> None:
        """Of the queues that should have changed, and of one other, which should not."""
        expected = {topic: self.expected_of(topic) for topic in TOPICS}
        changed = {topic for topic in TOPICS if expected[topic] != self.compared.get(topic)}
        looked_at = changed | {TOPICS[next(self.turns) % len(TOPICS)]}
        for topic in looked_at:
            assert await self.kit.store.queue(*topic) == expected[topic]
        for organization in ORGANIZATIONS:
            batches = self.model.batches.items()
            newest = [(key[1], batch) for key, batch in batches if key[0] == organization]
            found = await self.kit.store.batches(organization, [one for one, _ in newest])
            for (batch_id, batch), record in zip(newest, found, strict=True):
                self.compare_batch(record, organization, batch_id, batch)
                if batch.parts:
                    kept = await self.kit.store.batch_parts(organization, batch_id, "", 10)
                    assert {part: (done, rows) for part, done, rows in kept} == batch.parts
        self.compared = expected

    def expected_of(self, topic: tuple[str, str]) -> QueueRecord:
        jobs = self.model.of(*topic)
        claimable = (job.created_at for job in jobs if job.claimable)
        return QueueRecord(counted(jobs), min(claimable, default=None))

    @invariant()
    def everyone_who_waits_is_told(self) -> None:
        """What a commit publishes covers all that changed: nobody waits for ever."""
        told, before = self.kit.changed(), self.before
        self.before = now = self.state()
        gained = {topic for topic, jobs in now.ready.items() if jobs - before.ready[topic]}
        # Those who wait for room, too: a queue that was paused or full and is not any more.
        gained |= now.open - before.open
        assert gained <= told.ready_queues
        new = (False, counted(()), 0)
        both = now.batches.keys() | before.batches.keys()
        changed = {k for k in both if now.batches.get(k, new) != before.batches.get(k, new)}
        assert changed <= told.batches
        ended = {job_id for job_id, lease_id in before.held if (job_id, lease_id) not in now.held}
        assert ended <= set(told.released_jobs)
        # One who looks at a job too early, since its lease was renewed, looks again in time.
        coming = {
            moment
            for job, moment in now.due.items()
            if job not in before.due or moment < before.due[job]
        }
        assert not coming or (told.due is not None and told.due <= min(coming))

    def state(self) -> State:
        jobs, batches = self.model.jobs, self.model.batches
        ready = {
            one: {job.number for job in self.model.of(*one) if job.claimable} for one in TOPICS
        }
        return State(
            ready,
            {one for one in TOPICS if ready[one] and self.model.is_open(one)},
            {
                key: (batch.sealed, counted(self.model.of(key[0], batch=batch)), batch.changed)
                for key, batch in batches.items()
            },
            {(job.job_id, job.lease_id) for job in jobs if job.status == Status.PROCESSING},
            {job.number: moment for job in jobs for moment in moments([job])},
        )

    def compare_batch(
        self, record: BatchRecord, organization: str, batch_id: str, batch: Batch
    ) -> None:
        place = (organization, batch.queue_name)
        workers = self.model.workers.items()
        seen = [at for (owner, _), (queue, at) in workers if (owner, queue) == place]
        assert record._replace(
            top_errors=(), waiting_errors=(), behind=None, limited_by=_limited(record.limited_by)
        ) == BatchRecord(
            batch_id,
            batch.queue_name,
            batch.name,
            batch.sealed,
            counted(self.model.of(organization, batch=batch)),
            batch.created_at,
            batch.changed_at,
            (),
            max(seen, default=None),
            self.model.expired_at.get(place),
            batch.generation,
            place in self.model.paused,
            _limited(
                self.model.caps.limited_by(place, self.model.in_flight(*place), self.model.now)
            ),
            batch.changed,
            batch.replaced,
            limit_by=batch.limit_by,
            limit_per_key=batch.limit_per_key,
        )
        # Which of several that are equally frequent come is open.
        errors = +batch.errors
        frequent = [count for _, count in errors.most_common(5)]
        assert [count for _, count in record.top_errors] == frequent
        assert set(record.top_errors) <= set(errors.items())
        late = [
            job
            for job in self.model.of(organization, batch=batch)
            if job.status == Status.PENDING and job.due_at is not None
        ]
        # Those that another batch made are not looked at.
        for error in record.waiting_errors:
            same = [job.due_at for job in late if (job.last_error or "")[:200] == error.error]
            assert error.jobs <= len(same)
            assert error.next_at in same

    def compare_job(self, record: JobRecord, job: Job) -> None:
        asked = job.asked
        expected = JobRecord(
            record.seq,
            job.job_id,
            asked.queue_name,
            job.status,
            asked.priority,
            job.retry_count,
            asked.max_retries,
            job.deliveries,
            job.run_alone,
            asked.timeout_seconds,
            job.created_at,
            asked.scheduled_at,
            job.started_at,
            job.completed_at,
            job.lease_expires_at,
            job.worker_id,
            job.lease_id,
            None,
            job.last_error,
            asked.idempotency_key,
            job.result,
            asked.payload,
        )
        assert record == expected
        assert record.job_id == self.kit.job_id(record.seq)

    async def compare_all(self) -> None:
        """Every job with its history, and of those that were forgotten that they are."""
        store = self.kit.store
        for job in self.model.jobs:
            self.compare_job(await store.job(job.organization, job.job_id), job)
            assert await store.attempts(job.organization, job.job_id) == job.history
        for job in self.known.values():
            if job.is_gone:
                with refused("NOT_FOUND", "there is no job"):
                    await store.job(job.organization, job.job_id)

    # How it is driven

    def new_job(self, row: Any, queue: str) -> NewJob:
        key, priority, max_retries, delay = row
        due = None if delay is None else self.kit.clock.now() + 1000 * delay
        backoff = (None, "1s", "3s")[next(self.numbers) % 3]
        payload = self.payload(key)
        late = (None, None, None, 4_000, 61_000)[next(self.numbers) % 5]
        expires = None if late is None else self.kit.clock.now() + late
        return NewJob(queue, payload, priority, max_retries, 300, due, key, None, backoff, expires)

    def payload(self, key: str) -> bytes:
        """One that comes once, or one of two that are equal, in another order of fields."""
        number = next(self.numbers)
        fields = (struct(a=key), struct(b=key))
        return (struct(n=number), b"".join(fields), b"".join(reversed(fields)))[number % 3]

    def name(self, job: Job, job_id: str) -> None:
        """The store calls the job so; ids of an organization's younger jobs are greater."""
        if not job.job_id:
            own = (
                known for known, one in self.known.items() if one.organization == job.organization
            )
            assert all(job_id > known for known in own)
            job.job_id = job_id
            self.known[job_id] = job
        assert job.job_id == job_id

    def together(self, operations: Any) -> list[Any]:
        """Runs operations at the same time; they take effect in their order.

        The first goes ahead, so that what the others need to look up first is known.
        """
        first, *others = list(operations) or [None]
        if first is None:
            return []

        async def run() -> list[Any]:
            return [await first, *await asyncio.gather(*others)]

        return list(self.run(run()))

    def same(
        self,
        operation: Coroutine[Any, Any, Any],
        expect: Callable[[], Any],
        compare: Callable[[Any, Any], None],
    ) -> None:
        """Store and model do it, or refuse it for the same reason."""
        outcome: Any
        try:
            outcome = self.run(operation)
        except RefusedError as refusal:
            outcome = refusal
        try:
            expected = expect()
        except RefusalError as refusal:
            self.compare(outcome, compare, refusal)
        else:
            self.compare(outcome, compare, expected)

    @staticmethod
    def compare(outcome: Any, compare: Callable[[Any, Any], Any], expected: Any) -> None:
        if isinstance(expected, RefusalError):
            assert isinstance(outcome, RefusedError), f"{outcome} instead of {expected}"
            assert outcome.code == expected.code
            assert expected.text in outcome.message
            return
        assert not isinstance(outcome, RefusedError), f"{outcome} instead of {expected}"
        compare(outcome, expected)
