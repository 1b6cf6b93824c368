"""Progress of uploads and waits: a bar, a line, or a callback."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spooled_pipelines.types import BatchStats

ProgressOption: TypeAlias = bool | Callable[[int, int], object] | None
# Long enough to be calm, short enough to see a worker join.
_RATE_SECONDS = 30.0
WaitProgress: TypeAlias = "bool | Callable[[BatchStats], object] | None"


class Progress:
    """Shows the number of acknowledged rows; close it."""

    def __init__(self, option: ProgressOption, total: int, queue_name: str) -> None:
        """`option`: True for a bar, or called with (acknowledged rows, all rows)."""
        self._total = total
        self._callback = option if callable(option) else None
        self._bar: Any = None
        if option is True:
            self._bar = _bar(total, f"enqueue to {queue_name}", "row")

    def update(self, rows: int) -> None:
        if self._callback is not None:
            self._callback(rows, self._total)
        elif self._bar is not None:
            self._bar.update(rows - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def check_progress(option: object) -> None:
    """Raise InvalidArgumentError if it is not a way to show progress."""
    if option is not None and not isinstance(option, bool) and not callable(option):
        raise InvalidArgumentError(
            f"progress must be True, or callable with (sent rows, all rows), got {option!r}"
        )


class WaitProgressBar:
    """Shows the statistics of a batch as they change; close it."""

    def __init__(self, option: WaitProgress) -> None:
        self._callback = option if callable(option) else None
        self._wants_bar = option is True
        self._bar: Any = None

    def update(self, stats: BatchStats) -> None:
        if self._callback is not None:
            self._callback(stats)
        elif self._wants_bar:
            self._draw(stats)

    def _draw(self, stats: BatchStats) -> None:
        if self._bar is None:
            self._bar = _bar(stats.total, f"jobs of {stats.name or stats.batch_id}", "job")
        # A batch that is not sealed still grows.
        self._bar.total = stats.total
        self._bar.update(stats.total - stats.open - self._bar.n)
        if stats.failed:
            self._bar.set_postfix_str(f"{stats.failed} failed")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def wait_progress_bar(option: object) -> WaitProgressBar:
    """Return what shows the progress of a wait.

    Raises:
        InvalidArgumentError: it is not a way to show it.
    """
    if option is None or isinstance(option, bool) or callable(option):
        return WaitProgressBar(option)
    raise InvalidArgumentError(
        f"on_progress must be True, or callable with a BatchStats, got {option!r}"
    )


def _bar(total: int, title: str, unit: str) -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return _Line(total, title, unit)
    return tqdm(total=total, desc=title, unit=unit, unit_scale=True)


class _Line:
    """Progress without tqdm: one line on stderr for every tenth."""

    def __init__(self, total: int, title: str, unit: str) -> None:
        self.n = 0
        self.total = total
        self._title = title
        self._unit = unit
        self._tenths = 0

    def update(self, rows: int) -> None:
        self.n += rows
        tenths = 10 * self.n // max(self.total, 1)
        if tenths > self._tenths:
            self._tenths = tenths
            sys.stderr.write(f"{self._title}: {self.n} of {self.total} {self._unit}s\n")

    def set_postfix_str(self, text: str) -> None:
        """Discard the message: the next line says enough."""

    def close(self) -> None:
        sys.stderr.flush()


class ThroughputEstimator:
    """Estimates how fast a batch is done, and how long the rest of it takes."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, now: float, settled: int) -> None:
        """Record the number of settled jobs; `now` is a reading of any monotonic clock."""
        if self._seen and settled < self._seen[-1][1]:
            # Dead letters were retried: what was settled before says nothing about now.
            self._seen.clear()
        self._seen.append((now, settled))
        while len(self._seen) > 2 and now - self._seen[1][0] >= _RATE_SECONDS:
            self._seen.popleft()

    def rate(self) -> float | None:
        """Return the jobs settled a second recently; None before the second update."""
        if len(self._seen) < 2:
            return None
        (began, before), (ended, after) = self._seen[0], self._seen[-1]
        return (after - before) / (ended - began) if ended > began else None

    def left(self, still_open: int) -> float | None:
        """Return the seconds until the rest is done at that rate; None if nothing moves."""
        rate = self.rate()
        return still_open / rate if rate else None
