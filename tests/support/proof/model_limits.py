"""What holds jobs of the model back: limits of queues, throttles, and limits of keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from spooled_pipelines.server.core.limits.queue_limits import LimitedBy, QueueLimiter, QueueLimits
from spooled_pipelines.server.core.upkeep.key_upkeep import LIMITS_EVERY_MS

# Organization and queue.
Topic = tuple[str, str]


class QueueCaps:
    """How much of each queue may go out. The bucket's arithmetic is the servers' own."""

    def __init__(self) -> None:
        self._of: dict[Topic, QueueLimiter] = {}

    def set(self, topic: Topic, limits: QueueLimits, now: int) -> None:
        self._put(topic, QueueLimiter.of_limits(limits, self._of.pop(topic, None), now))

    def throttle(
        self, topic: Topic, started_at: int, now: int, in_flight: int, after_ms: int | None
    ) -> None:
        """A job came too fast that went out then."""
        before = self._of.get(topic, QueueLimiter.unlimited(now)).filled(now)
        self._put(topic, before.throttled(started_at, now, in_flight, after_ms))

    def claim(
        self, topic: Topic, limit: int, in_flight: int, now: int, take: Callable[[int], int]
    ) -> None:
        """Take as many as may go out; `take` says how many there were."""
        limiter = self._of.get(topic)
        if limiter is None:
            take(limit)
            return
        limiter = limiter.filled(now)
        taken = take(min(limit, limiter.room(in_flight)))
        if taken or limiter.is_none:
            self._put(topic, limiter.spent(taken))

    def is_full(self, topic: Topic, in_flight: int) -> bool:
        return topic in self._of and self._of[topic].is_full(in_flight)

    def limited_by(self, topic: Topic, in_flight: int, now: int) -> LimitedBy | None:
        limiter = self._of.get(topic)
        return None if limiter is None else limiter.limited_by(in_flight, now)

    def _put(self, topic: Topic, limiter: QueueLimiter | None) -> None:
        if limiter is None or limiter.is_none:
            self._of.pop(topic, None)
        else:
            self._of[topic] = limiter


class KeyLimits:
    """How many jobs with a key may run at once, as was said last."""

    def __init__(self) -> None:
        self.most: dict[tuple[Topic, int], int] = {}
        self._kept: set[tuple[Topic, int]] = set()
        self._upkeep_due, self._has_keys = 0, False

    def put(self, topic: Topic, keys: Iterable[int | None], most: int) -> None:
        said = {(topic, key) for key in keys if key is not None}
        self.most.update(dict.fromkeys(said, most))
        self._kept |= said

    def look_after_keys(self, now: int, needed: set[tuple[Topic, int]]) -> int | None:
        """Forget limits that no job needs; returns when to look again."""
        if now >= self._upkeep_due:
            self._upkeep_due, self._has_keys = now + LIMITS_EVERY_MS, bool(self._kept)
            self._kept &= needed
        return self._upkeep_due if self._has_keys else None

    def restart(self) -> None:
        """A server looks at once when it starts."""
        self._upkeep_due, self._has_keys = 0, False
