"""Fetching jobs: as many as there is room for, and patiently from empty queues."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from spooled_pipelines.batch.aio.payload_schemas import AsyncPayloadSchemas
from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.errors import SpooledError
from spooled_pipelines.types import Job
from spooled_pipelines.wire import batch_v1
from spooled_pipelines.wire.limits import CHUNK_BYTES_MAX
from spooled_pipelines.wire.methods import BATCH
from spooled_pipelines.worker.clock import Clock
from spooled_pipelines.worker.fetching.fetch_policy import (
    CHUNKS,
    PAYLOAD_BYTES_MAX,
    SINGLE_JOBS,
    FetchLimits,
    Load,
    has_room,
    jobs_to_fetch,
    request_sizes,
    start_limit,
)
from spooled_pipelines.worker.fetching.idle_wait import IdleSubscription, called
from spooled_pipelines.worker.jobs.leased_chunk import LeasedChunk
from spooled_pipelines.worker.log import logger
from spooled_pipelines.worker.retry import Backoff, is_transient
from spooled_pipelines.worker.settings import QueueShare, WorkerSettings

_NO_LIMIT = 1_000_000


class QueueSource:
    """A queue as this worker sees it.

    Attributes:
        share: its name, weight and concurrency.
        subscription: the standing request for its next job while it is empty.
        backoff: the pauses between two requests to an empty queue.
        served: jobs that it had, divided by its weight; the queue with the least is next.
        idle_until: it had fewer jobs than were asked for, and is left alone until then.
        was_empty: it had no job while this worker had none in hand.
    """

    def __init__(
        self, share: QueueShare, subscription: IdleSubscription, idle_seconds: float
    ) -> None:
        self.share = share
        self.subscription = subscription
        self.backoff = Backoff(0.02, idle_seconds, jitter=0.3)
        self.served = 0.0
        self.idle_until = 0.0
        self.was_empty = False
        self._said_held_back = False

    def say_held_back(self, due: int, *, is_paused: bool) -> None:
        """Log, once, that the worker waits for jobs which the queue does not hand out."""
        if not self._said_held_back:
            self._said_held_back = True
            why = "it is paused" if is_paused else "its limits hold them back"
            logger.warning("%d jobs of queue %r are due, but %s", due, self.share.name, why)

    def record(self, jobs: int) -> None:
        """Note how many jobs it had."""
        self.served += jobs / self.share.weight
        if jobs:
            self.backoff.reset()


class _Fetched(NamedTuple):
    """What one request came to."""

    jobs: int
    # Others may not have fitted into it: the queue is not empty.
    cut_short: bool = False


class Fetcher:
    """Fetches jobs until told to stop, and hands them to `on_jobs` with the time of their claim.

    They come in chunks, or one by one from a server that has no ClaimChunks. Each request is a
    call of its own, because that has an end: on a stream, a request that finds fewer jobs than it
    asks for is not told so.

    A job that came for a standing request when there is no room for it any longer goes to
    `give_back`, which returns whether the server takes it back.
    """

    def __init__(
        self,
        client: AsyncSpooledClient,
        clock: Clock,
        settings: WorkerSettings,
        *,
        load: Callable[[], Load],
        unfinished_of: Callable[[str], int],
        rate: Callable[[], float],
        on_jobs: Callable[[Job | LeasedChunk, float], None],
        give_back: Callable[[Job, float], bool],
    ) -> None:
        self._client = client
        self._schemas = AsyncPayloadSchemas(client.connection)
        self._clock = clock
        self._settings = settings
        self._load = load
        self._unfinished_of = unfinished_of
        self._rate = rate
        self._on_jobs = on_jobs
        self._give_back = give_back
        # Whether the server hands out chunks, as far as is known.
        self._claims_chunks = True
        self._room = asyncio.Event()
        self._stopping = asyncio.Event()
        # An empty queue has a job now, or it is time to stop.
        self._notified = asyncio.Event()
        self._sources = [self._source(share) for share in settings.queues]
        rate_limit = settings.rate
        self._limit = None if rate_limit is None else start_limit(rate_limit, clock.monotonic())
        self._backoff = Backoff(0.2, 10.0)
        # Whether the server answered the last request; readiness looks at it.
        self.server_answers = True

    def notify_room(self) -> None:
        """Say that something finished: it may be time to fetch again."""
        self._room.set()

    def stop(self) -> None:
        """Fetch no more. A request under way is still waited for: its jobs are this worker's."""
        self._stopping.set()
        self._room.set()
        self._notified.set()

    async def run(self) -> None:
        """Fetch until stopped or, with `stop_when_empty`, until every queue is empty.

        Raises:
            SpooledError: asking again would not help (a wrong key, a queue that is not allowed).
        """
        try:
            await self._run()
        finally:
            for source in self._sources:
                await source.subscription.close()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            self._room.clear()
            wanted = self._wanted()
            if wanted == 0:
                await self._wait_for_room()
                continue
            source = self._next_source()
            if source is None:
                await self._wait_for_jobs()
                continue
            wanted = min(wanted, self._room_of(source))
            had_nothing = self._load() == Load(0, 0)
            requests = [self._fetch(source, size) for size in request_sizes(wanted, self._limits)]
            answers = await asyncio.gather(*requests)
            fetched = sum(answer.jobs for answer in answers if answer is not None)
            if None in answers or self._stopping.is_set():
                continue
            cut_short = any(answer is not None and answer.cut_short for answer in answers)
            source.record(fetched)
            source.was_empty = had_nothing and fetched == 0
            if self._settings.stop_when_empty and await self._are_drained():
                return
            if fetched < wanted and not cut_short:
                source.idle_until = self._clock.monotonic() + source.backoff.next()

    async def _are_drained(self) -> bool:
        """Return whether no queue has a job that is due.

        One that hands out nothing may have some: while it is paused, or as its limits have it.
        """
        if not all(each.was_empty for each in self._sources):
            return False
        for source in self._sources:
            try:
                found = await self._client.queues(source.share.name) if self._claims_chunks else []
            except SpooledError as error:
                if not is_transient(error):
                    raise
                return False
            for queue in found:
                due = queue.stats.pending - queue.waiting
                source.was_empty = due <= 0
                if due > 0:
                    source.say_held_back(due, is_paused=queue.paused)
                    return False
        return True

    @property
    def _limits(self) -> FetchLimits:
        return CHUNKS if self._claims_chunks else SINGLE_JOBS

    def _wanted(self) -> int:
        wanted = jobs_to_fetch(self._load(), self._settings.slots, self._rate(), self._limits)
        if self._limit is not None:
            wanted = min(wanted, self._limit.available(self._clock.monotonic()))
        return wanted

    def _next_source(self) -> QueueSource | None:
        """Return the queue whose turn it is, of those that may have jobs and room for them."""
        now = self._clock.monotonic()
        able = [each for each in self._sources if each.idle_until <= now and self._room_of(each)]
        if not able:
            return None
        # A queue that was empty for long does not make up for it.
        least = max(each.served for each in self._sources) - self._settings.slots
        for each in able:
            each.served = max(each.served, least)
        return min(able, key=lambda each: each.served)

    def _room_of(self, source: QueueSource) -> int:
        limit = source.share.concurrency
        if limit is None:
            return _NO_LIMIT
        return max(0, limit - self._unfinished_of(source.share.name))

    async def _wait_for_room(self) -> None:
        seconds = None
        if self._limit is not None:
            seconds = self._limit.time_until_one() or None
        await self._clock.wait_for_event(self._room, seconds)

    async def _wait_for_jobs(self) -> None:
        """Wait until a queue has a job, or it is time to ask again."""
        now = self._clock.monotonic()
        idle = [each for each in self._sources if each.idle_until > now]
        if not self._settings.stop_when_empty:
            for source in idle:
                if self._room_of(source):
                    await source.subscription.request()
        until = min((each.idle_until for each in idle), default=None)
        # Where a queue has as many jobs in hand as it may, what counts is that one ends.
        seconds = None if until is None else max(0.0, until - self._clock.monotonic())
        is_full = len(idle) < len(self._sources)
        await self._clock.wait_for_event(self._room if is_full else self._notified, seconds)
        self._notified.clear()

    async def _fetch(self, source: QueueSource, size: int) -> _Fetched | None:
        """Return what came; None where the server did not answer."""
        # The lease counts from before the call: earlier than for the server, never later.
        claimed_at = self._clock.monotonic()
        claims_chunks = self._claims_chunks
        try:
            if claims_chunks:
                fetched = await self._claim_chunks(source, size, claimed_at)
            else:
                fetched = await self._dequeue(source, size, claimed_at)
        except SpooledError as error:
            if error.code == "UNIMPLEMENTED" and claims_chunks:
                self._claims_chunks = False
                return None
            if not is_transient(error):
                raise
            self.server_answers = False
            pause = self._backoff.after(error)
            logger.warning("no jobs from the server, asking again in %.1f s: %s", pause, error)
            await self._clock.wait_for_event(self._stopping, pause)
            return None
        if not self.server_answers:
            self.server_answers = True
            logger.info("the server answers again")
        self._backoff.reset()
        return fetched

    async def _claim_chunks(self, source: QueueSource, size: int, claimed_at: float) -> _Fetched:
        # At least one job comes, however large it is.
        room = max(1, PAYLOAD_BYTES_MAX - self._load().payload_bytes)
        most = min(CHUNK_BYTES_MAX, room)
        request = batch_v1.ClaimChunksRequest(
            queue_name=source.share.name,
            worker_id=self._settings.worker_id,
            lease_duration_secs=self._settings.lease_seconds,
            max_jobs=size,
            max_bytes=most,
        )
        # Not repeatable, as a Dequeue.
        with self._client.claims.asking(request):
            answer = await self._client.connection.unary(
                BATCH["ClaimChunks"], request, repeatable=False
            )
        chunks = []
        for each in answer.chunks:
            schemas = await self._schemas.named(zip(each.schema_ids, each.job_ids, strict=False))
            # As it is called here, also if the server has another name for it now.
            each.queue_name = source.share.name
            chunk = LeasedChunk(each, self._settings.worker_id, schemas)
            chunks.append(chunk)
            self._take(chunk, claimed_at, len(chunk))
        cut_short = sum(chunk.payload_bytes for chunk in chunks) >= most / 2
        return _Fetched(sum(map(len, chunks)), cut_short)

    async def _dequeue(self, source: QueueSource, size: int, claimed_at: float) -> _Fetched:
        jobs = await self._client.dequeue(
            source.share.name,
            self._settings.worker_id,
            batch_size=size,
            lease_seconds=self._settings.lease_seconds,
        )
        for job in jobs:
            self._take(called(job, source.share.name), claimed_at)
        return _Fetched(len(jobs))

    def _take(self, jobs: Job | LeasedChunk, claimed_at: float, count: int = 1) -> None:
        if self._limit is not None:
            self._limit.take(count)
        self._on_jobs(jobs, claimed_at)

    def _source(self, share: QueueShare) -> QueueSource:
        def take(job: Job, claimed_at: float) -> None:
            # Its slot may be taken since it was asked for: by a claim that went out beside, or by a
            # job of another queue.
            if self._fits(source) or not self._give_back(job, claimed_at):
                self._take(job, claimed_at)
                source.record(1)
            source.idle_until = 0.0
            self._notified.set()

        subscription = IdleSubscription(self._client, self._clock, self._settings, share.name, take)
        source = QueueSource(share, subscription, self._settings.idle_seconds)
        return source

    def _fits(self, source: QueueSource) -> bool:
        slots, rate = self._settings.slots, self._rate()
        return self._room_of(source) > 0 and has_room(self._load(), slots, rate, self._limits)
