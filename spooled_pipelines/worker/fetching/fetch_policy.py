"""How many jobs to fetch, and when: decisions without I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spooled_pipelines.token_bucket import TokenBucket
from spooled_pipelines.wire.limits import DEQUEUE_MAX

# Jobs are prefetched for about this long, so that slots do not wait for a round trip. A worker
# with slow handlers prefetches nothing, and leaves to others what it could not begin.
PREFETCH_SECONDS = 0.25
PREFETCH_MAX = 1_000
# Backpressure: with so many results sent and not yet acknowledged, nothing new is fetched.
UNACKNOWLEDGED_MAX = 2_000
# Of a fast worker, what it does in so long.
UNACKNOWLEDGED_SECONDS = 0.5
# The same with so many bytes of payloads in hand.
PAYLOAD_BYTES_MAX = 64 << 20
# Full requests under way at once: with a distant or busy server, one would hold up everything.
_REQUESTS_MAX = 10
# The time constant of the rate estimate.
_DECAY_SECONDS = 1.0
# In less time than this the first jobs say little of how many there can be in a second.
_RATED_SECONDS = 0.05


class RateEstimate:
    """Jobs finished a second, as an average since work began that decays exponentially."""

    def __init__(self, now: float) -> None:
        self._value = 0.0
        self._began = self._at = now

    def begin(self, now: float) -> None:
        """Note that there is work again; after a pause the average begins with it."""
        if not self._value or now - self._at > _DECAY_SECONDS:
            self._value = 0.0
            self._began = self._at = now

    def record(self, jobs: int, now: float) -> None:
        """Count jobs that have finished."""
        self._value = self._decayed(now) + jobs / _DECAY_SECONDS
        self._at = now

    def rate(self, now: float) -> float:
        """Return the jobs a second."""
        # Of work that has just begun, most of the time that is averaged lies before it.
        worked = max(now - self._began, _RATED_SECONDS)
        return self._decayed(now) / -math.expm1(-worked / _DECAY_SECONDS)

    def _decayed(self, now: float) -> float:
        return self._value * math.exp(-max(0.0, now - self._at) / _DECAY_SECONDS)


@dataclass(frozen=True, slots=True)
class Load:
    """What a worker has in hand: jobs fetched and not finished, results not acknowledged.

    And how many bytes of payloads, as far as they came as chunks.
    """

    unfinished: int
    unacknowledged: int
    payload_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How many jobs at most are fetched ahead, and how many one request asks for."""

    prefetch: int
    per_request: int


SINGLE_JOBS = FetchLimits(PREFETCH_MAX, DEQUEUE_MAX)
# The server claims a chunk in one statement, while others wait.
CHUNKS = FetchLimits(20_000, 2_000)


def jobs_to_fetch(
    load: Load, concurrency: int, rate: float, limits: FetchLimits = SINGLE_JOBS
) -> int:
    """Return how many jobs to ask for now, in as many requests as that takes; 0 means: wait.

    Never more than free slots plus what `rate` does within PREFETCH_SECONDS. A request for a few
    jobs costs as much as one for many, so with every slot busy it waits for half of that room.
    """
    if load.payload_bytes >= PAYLOAD_BYTES_MAX:
        return 0
    if load.unacknowledged >= max(UNACKNOWLEDGED_MAX, rate * UNACKNOWLEDGED_SECONDS):
        return 0
    prefetch = _prefetch(rate, limits)
    room = concurrency + prefetch - load.unfinished
    busy = load.unfinished >= concurrency
    if room <= 0 or (busy and room < prefetch / 2):
        return 0
    return min(room, _REQUESTS_MAX * limits.per_request)


def has_room(load: Load, concurrency: int, rate: float, limits: FetchLimits = SINGLE_JOBS) -> bool:
    """Return whether one more job can begin soon, or is better left to another worker."""
    return load.unfinished < concurrency + _prefetch(rate, limits)


def _prefetch(rate: float, limits: FetchLimits) -> int:
    return min(limits.prefetch, int(rate * PREFETCH_SECONDS))


def request_sizes(jobs: int, limits: FetchLimits = SINGLE_JOBS) -> list[int]:
    """Return the sizes of the requests for so many jobs, each within the limit."""
    full, rest = divmod(jobs, limits.per_request)
    return [limits.per_request] * full + ([rest] if rest else [])


def start_limit(rate: float, now: float) -> TokenBucket:
    """Return the bucket of a worker that begins `rate` jobs a second.

    Its burst is a tenth of a second's worth, at least one job.
    """
    return TokenBucket(rate, burst=max(1.0, rate / 10), now=now)
