"""Timing, and lines that say a ratio first and what it was made from behind it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """How many rows a second something does: the median of its runs."""

    what: str
    rows: int
    seconds: tuple[float, ...]

    @property
    def per_second(self) -> float:
        return self.rows / statistics.median(self.seconds)

    def __str__(self) -> str:
        spread = f"{self.rows / max(self.seconds):,.0f} to {self.rows / min(self.seconds):,.0f}"
        runs = f"{len(self.seconds)} runs: {spread}" if len(self.seconds) > 1 else "one run"
        return f"{self.what}: {self.per_second:,.0f} rows/s ({self.rows:,} rows, {runs})"


def rate(what: str, rows: int, work: Callable[[int], object], runs: int = 3) -> Rate:
    """Time `work`, which is called with the number of the run and does `rows` rows."""
    seconds = []
    for run in range(runs):
        started = time.perf_counter()
        work(run)
        seconds.append(time.perf_counter() - started)
    return Rate(what, rows, tuple(seconds))


def show_ratio(promise: str, wanted: float, ours: Rate, theirs: Rate) -> bool:
    """Print how many times faster `ours` is; True if that is what was promised."""
    ratio = ours.per_second / theirs.per_second
    kept = ratio >= wanted
    print(f"{ratio:8.2f} ×  {promise} (wanted: {wanted:g} ×{'' if kept else ', MISSED'})")
    print(f"            {ours}")
    print(f"            {theirs}", flush=True)
    return kept
