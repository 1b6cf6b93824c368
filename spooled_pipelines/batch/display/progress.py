"""Progress of uploads and waits: a callback, or a bar that tqdm draws."""

from __future__ import annotations

import sys
import warnings
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spooled_pipelines.types import BatchStats

ProgressOption: TypeAlias = bool | Callable[[int, int], object] | None
# Long enough to be calm, short enough to see a worker join.
_RATE_SECONDS = 30.0
WaitProgressOption: TypeAlias = "bool | Callable[[BatchStats], object] | None"


class ProgressBar:
    """A tqdm bar: a widget in JupyterLab, text elsewhere. It appears at the first update.

    Raises:
        ImportError: tqdm is not installed.
    """

    def __init__(self, title: str, unit: str) -> None:
        try:
            from tqdm import TqdmWarning

            with warnings.catch_warnings():
                # Without ipywidgets it warns, and draws a bar of text, which is fine.
                warnings.simplefilter("ignore", TqdmWarning)
                from tqdm.auto import tqdm
        except ImportError as error:
            raise ImportError("a progress bar needs tqdm: pip install tqdm") from error
        self._make = partial(tqdm, desc=title, unit=unit, mininterval=0.2, dynamic_ncols=True)
        is_widget = any("notebook" in each.__module__ for each in tqdm.__mro__)
        kernels = sys.modules.get("ipykernel.kernelapp")
        if kernels is not None and kernels.IPKernelApp.initialized() and not is_widget:
            # What a kernel writes to standard error is red.
            self._make = partial(self._make, file=sys.stdout)
        self._bar: Any = None

    def update(self, done: int, total: int, note: str = "") -> None:
        """Set the bar to a count, which may also go back."""
        if self._bar is None:
            self._bar = self._make(total=total)
        bar = self._bar
        bar.total = total
        if note:
            bar.set_postfix_str(note, refresh=False)
        bar.update(done - bar.n)
        if done >= total:
            bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


class Progress:
    """Tells a callback the number of acknowledged rows and of all rows; close it."""

    def __init__(self, option: ProgressOption, total: int, queue_name: str) -> None:
        """`option`: True for a bar, or the callback."""
        self._total = total
        self._bar = ProgressBar(f"enqueue to {queue_name}", " rows") if option is True else None
        self._callback = option if callable(option) else None
        if self._bar is not None:
            self._callback = self._bar.update

    def update(self, rows: int) -> None:
        if self._callback is not None:
            self._callback(rows, self._total)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def check_progress(option: object) -> None:
    """Raise InvalidArgumentError if it is not a way to show progress."""
    if option is not None and not isinstance(option, bool) and not callable(option):
        raise InvalidArgumentError(
            f"progress must be True, or callable with (sent rows, all rows), got {option!r}"
        )


class WaitProgress:
    """Tells a callback the statistics of a batch as they change; close it."""

    def __init__(self, option: WaitProgressOption) -> None:
        """`option`: True for a bar, or the callback."""
        if option is not None and not isinstance(option, bool) and not callable(option):
            raise InvalidArgumentError(
                f"on_progress must be True, or callable with a BatchStats, got {option!r}"
            )
        self._bar: ProgressBar | None = None
        self._callback = option if callable(option) else self._draw if option else None

    def update(self, stats: BatchStats) -> None:
        if self._callback is not None:
            self._callback(stats)

    def _draw(self, stats: BatchStats) -> None:
        if self._bar is None:
            self._bar = ProgressBar(f"jobs of {stats.name or stats.batch_id}", " jobs")
        failed = f"{stats.failed} failed" if stats.failed else ""
        # A batch that is not sealed still grows.
        self._bar.update(stats.total - stats.open, stats.total, failed)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


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
