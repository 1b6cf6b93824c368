"""Timing, and lines that say a ratio first and what it was made from behind it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]


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


@dataclass(frozen=True)
class Side:
    """One side of a ratio: `work` is called with the number of the run and does `rows` rows.

    It returns its seconds, as a float, where not all of it is meant to be timed.
    """

    what: str
    rows: int
    work: Callable[[int], object]


def rate(what: str, rows: int, work: Callable[[int], object], runs: int = 3) -> Rate:
    """Time `work`, which is called with the number of the run and does `rows` rows."""
    return in_turns(Side(what, rows, work), runs=runs)[0]


def in_turns(*sides: Side, runs: int, clock: Clock = time.perf_counter) -> list[Rate]:
    """Each side in turn, `runs` times over, so that a busy moment falls on all of them.

    Where nothing but this process works, `time.process_time` as the clock leaves out what others
    took of the machine meanwhile.
    """
    seconds: list[list[float]] = [[] for _ in sides]
    for run in range(runs):
        for side, taken in zip(sides, seconds, strict=True):
            started = clock()
            said = side.work(run)
            taken.append(said if isinstance(said, float) else clock() - started)
    made = zip(sides, seconds, strict=True)
    return [Rate(side.what, side.rows, tuple(taken)) for side, taken in made]


def show_ratio(promise: str, wanted: float, ours: Rate, theirs: Rate) -> bool:
    """Print how many times faster `ours` is; True if that is what was promised."""
    kept = show(promise, ours.per_second / theirs.per_second, at_least=wanted)
    print(f"            {ours}")
    print(f"            {theirs}", flush=True)
    return kept


def show(
    promise: str, ratio: float, *, at_least: float | None = None, at_most: float | None = None
) -> bool:
    """Print a ratio and what it was wanted to be; True where it is."""
    kept = (at_least is None or ratio >= at_least) and (at_most is None or ratio <= at_most)
    wanted = f"{at_least:g} ×" if at_most is None else f"at most {at_most:g} ×"
    print(f"{ratio:8.2f} ×  {promise} (wanted: {wanted}{'' if kept else ', MISSED'})")
    return kept
