"""Taking jobs: as many as there is room for, and patiently from empty queues."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.errors import RateLimitError, SpooledError
from spooled_pipelines.types import Job
from spooled_pipelines.worker.doorbell import Doorbell
from spooled_pipelines.worker.faults import is_passing
from spooled_pipelines.worker.flow import Allowance, Backoff, Load, how_many, requests
from spooled_pipelines.worker.log import logger
from spooled_pipelines.worker.settings import QueueShare, WorkerSettings

_ANY_NUMBER = 1_000_000


class _Source:
    """A queue as this worker sees it."""

    def __init__(self, share: QueueShare, doorbell: Doorbell, idle_seconds: float) -> None:
        self.share = share
        self.doorbell = doorbell
        self.idle = Backoff(0.02, idle_seconds, spread=0.3)
        # What it had, by its weight: the one with the least is next.
        self.had = 0.0
        # It had less than was asked for, and is left alone until then.
        self.rests_until = 0.0
        # It had nothing while nothing of this worker's was in hand.
        self.drained = False

    def got(self, jobs: int) -> None:
        self.had += jobs / self.share.weight
        if jobs:
            self.idle.reset()


class Intake:
    """Asks for jobs until told to stop, and hands each to `take` with the time of its claim.

    Each question is a Dequeue of its own, because that has an end: in a conversation a request
    that finds fewer jobs than it asks for is not told so.
    """

    def __init__(
        self,
        client: AsyncSpooledClient,
        settings: WorkerSettings,
        *,
        load: Callable[[], Load],
        load_of: Callable[[str], int],
        rate: Callable[[], float],
        take: Callable[[Job, float], None],
    ) -> None:
        self._client = client
        self._settings = settings
        self._load = load
        self._load_of = load_of
        self._rate = rate
        self._hand_over = take
        self._room = asyncio.Event()
        self._stopping = asyncio.Event()
        # A queue that was empty has a job, or it is time to stop.
        self._news = asyncio.Event()
        self._sources = [self._source(share) for share in settings.queues]
        now = time.monotonic()
        self._allowance = None if settings.rate is None else Allowance(settings.rate, now)
        self._trouble = Backoff(0.2, 10.0)
        # Whether the server answered the last question, for those who ask after the worker.
        self.answered = True

    def room(self) -> None:
        """Something finished: it may be time to ask again."""
        self._room.set()

    def stop(self) -> None:
        """Ask no more. A question under way is still heard out, since its jobs are ours."""
        self._stopping.set()
        self._room.set()
        self._news.set()

    async def run(self) -> None:
        """Until stopped, or, where so told, until every queue is empty.

        Raises SpooledError where asking again is no use (wrong key, queue not allowed).
        """
        try:
            await self._run()
        finally:
            for source in self._sources:
                await source.doorbell.close()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            self._room.clear()
            asked = self._how_many()
            if asked == 0:
                await self._wait_for_room()
                continue
            source = self._next()
            if source is None:
                await self._rest()
                continue
            asked = min(asked, self._room_of(source))
            is_idle = self._load() == Load(0, 0)
            answers = await asyncio.gather(*(self._ask(source, n) for n in requests(asked)))
            got = sum(filter(None, answers))
            if None in answers or self._stopping.is_set():
                continue
            source.got(got)
            source.drained = is_idle and got == 0
            if self._settings.stop_when_empty and all(each.drained for each in self._sources):
                return
            if got < asked:
                source.rests_until = time.monotonic() + source.idle.next()

    def _how_many(self) -> int:
        asked = how_many(self._load(), self._settings.slots, self._rate())
        if self._allowance is not None:
            asked = min(asked, self._allowance.left(time.monotonic()))
        return asked

    def _next(self) -> _Source | None:
        """The queue whose turn it is, of those that may have jobs and room for them."""
        now = time.monotonic()
        able = [each for each in self._sources if each.rests_until <= now and self._room_of(each)]
        if not able:
            return None
        # One that was empty for long does not make up for it.
        least = max(each.had for each in self._sources) - self._settings.slots
        for each in able:
            each.had = max(each.had, least)
        return min(able, key=lambda each: each.had)

    def _room_of(self, source: _Source) -> int:
        most = source.share.concurrency
        return _ANY_NUMBER if most is None else max(0, most - self._load_of(source.share.name))

    async def _wait_for_room(self) -> None:
        seconds = None
        if self._allowance is not None:
            seconds = self._allowance.seconds_until_one() or None
        await _within(self._room, seconds)

    async def _rest(self) -> None:
        """Until a queue has a job, or it is time to look again."""
        now = time.monotonic()
        resting = [each for each in self._sources if each.rests_until > now]
        if not self._settings.stop_when_empty:
            for source in resting:
                if self._room_of(source):
                    await source.doorbell.ask()
        moment = min((each.rests_until for each in resting), default=None)
        # Where every queue has as many in hand as it may, an end of one is what counts.
        seconds = None if moment is None else max(0.0, moment - time.monotonic())
        full = len(resting) < len(self._sources)
        await _within(self._room if full else self._news, seconds)
        self._news.clear()

    async def _ask(self, source: _Source, asked: int) -> int | None:
        """How many jobs came; None where the server did not answer."""
        # The lease counts from before the call: earlier than for the server, never later.
        claimed_at = time.monotonic()
        try:
            jobs = await self._client.dequeue(
                source.share.name,
                self._settings.worker_id,
                batch_size=asked,
                lease_seconds=self._settings.lease_seconds,
            )
        except SpooledError as error:
            if not is_passing(error):
                raise
            self.answered = False
            pause = self._trouble.next()
            if isinstance(error, RateLimitError):
                pause = max(pause, error.retry_after)
            logger.warning("no jobs from the server, asking again in %.1f s: %s", pause, error)
            await _within(self._stopping, pause)
            return None
        self.answered = True
        self._trouble.reset()
        for job in jobs:
            self._take(job, claimed_at)
        return len(jobs)

    def _take(self, job: Job, claimed_at: float) -> None:
        if self._allowance is not None:
            self._allowance.spend(1)
        self._hand_over(job, claimed_at)

    def _source(self, share: QueueShare) -> _Source:
        def rung() -> None:
            source.got(1)
            source.rests_until = 0.0
            self._news.set()

        doorbell = Doorbell(self._client, self._settings, share.name, self._take, rung)
        source = _Source(share, doorbell, self._settings.idle_seconds)
        return source


async def _within(event: asyncio.Event, seconds: float | None) -> None:
    """Until it is set, at most so long."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return
