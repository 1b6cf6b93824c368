"""How long a job waits before each of its retries: no I/O, for client and server.

On the wire and in a store a backoff is a text: "5s", "5s, 30s, 2m", or "exponential 5s cap 10m
jitter 20%".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from typing import NamedTuple, TypeAlias

# Seconds, a timedelta, a list of these for each retry in turn, or a text.
RetryBackoffOption: TypeAlias = float | timedelta | Sequence[float | timedelta | str] | str

_LONGEST_SECONDS = 30 * 86_400
_EXPONENTIAL_CAP_SECONDS = 3_600.0
# As many as a job can have retries.
_PAUSES_MAX = 100
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_PAUSE = r"\d+(?:\.\d+)?(?:ms|[smhd])?"
_BACKOFF = re.compile(
    rf"(exponential\s+)?({_PAUSE}(?:\s*,\s*{_PAUSE})*)(?:\s+cap\s+({_PAUSE}))?"
    r"(?:\s+jitter\s+(\d+(?:\.\d+)?)%)?",
    re.ASCII,
)
_EXAMPLES = '"5s", "5s, 30s, 2m" or "exponential 5s cap 10m jitter 20%"'


class RetryBackoff(NamedTuple):
    """How long a job waits before each of its retries, in seconds.

    Attributes:
        pauses: before each retry in turn; the last one is repeated.
        exponential: whether the last one doubles each time that it is repeated.
        cap: no pause is longer.
        jitter: each pause is longer or shorter by up to this fraction of it.
    """

    pauses: tuple[float, ...]
    exponential: bool
    cap: float
    jitter: float

    def __str__(self) -> str:
        pauses = ", ".join(f"{_shown(pause)}s" for pause in self.pauses)
        jitter = f" jitter {_shown(100 * self.jitter)}%" if self.jitter else ""
        cap = f" cap {_shown(self.cap)}s" if self.cap < _LONGEST_SECONDS else ""
        return f"{'exponential ' * self.exponential}{pauses}{cap}{jitter}"

    def delay_ms(self, retries: int, chance: float) -> int:
        """Return the pause before the next retry of a job that was retried so often.

        `chance`, from 0 to 1, places it between the least and the most that the jitter allows.
        """
        last = len(self.pauses) - 1
        pause = self.pauses[min(retries, last)]
        if self.exponential and retries > last:
            pause *= 2.0 ** min(retries - last, 60)
        pause = min(pause, self.cap) * (1 + self.jitter * (2 * chance - 1))
        return round(1000 * min(pause, self.cap))


def backoff_of(value: RetryBackoffOption) -> RetryBackoff:
    """Return the backoff that a user gave; ValueError says what it must be."""
    if isinstance(value, str):
        return parse_backoff(value)
    is_list = isinstance(value, Sequence)
    pauses = value if isinstance(value, Sequence) else [value]
    if is_list and not 1 <= len(pauses) <= _PAUSES_MAX:
        raise ValueError(f"a list of pauses must have 1 to {_PAUSES_MAX}, got {len(pauses)}")
    return RetryBackoff(tuple(map(_seconds, pauses)), False, _LONGEST_SECONDS, 0.0)


@lru_cache(maxsize=1_000)
def parse_backoff(text: str) -> RetryBackoff:
    """Return the backoff that a text says; ValueError says what it must be."""
    match = _BACKOFF.fullmatch(text.strip())
    if match is None:
        shown = text if len(text) <= 80 else text[:80] + "…"
        raise ValueError(
            f"must be a number of seconds, or a text such as {_EXAMPLES}, got {shown!r}"
        )
    exponential, pauses, cap, jitter = match.groups()
    default_cap = _EXPONENTIAL_CAP_SECONDS if exponential else _LONGEST_SECONDS
    backoff = backoff_of([_parse_pause(pause) for pause in pauses.split(",")])
    if jitter and float(jitter) > 100:
        raise ValueError(f"must have a jitter of 0% to 100%, got {jitter}%")
    return backoff._replace(
        exponential=exponential is not None,
        cap=_seconds(_parse_pause(cap)) if cap else default_cap,
        jitter=float(jitter or 0) / 100,
    )


def is_backoff(text: str) -> bool:
    """Return whether a text says a backoff, and not the name of a column."""
    return _BACKOFF.fullmatch(text.strip()) is not None


def _seconds(pause: object) -> float:
    seconds: object = pause
    if isinstance(pause, timedelta):
        seconds = pause.total_seconds()
    elif isinstance(pause, str) and re.fullmatch(_PAUSE, pause.strip(), re.ASCII):
        seconds = _parse_pause(pause)
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):  # noqa: SIM102
        # Written so that what is not a number is refused too.
        if 0 <= seconds <= _LONGEST_SECONDS:
            return float(seconds)
    raise ValueError(f"must have pauses of 0 seconds to 30 days, got {pause!r}")


def _parse_pause(text: str) -> float:
    number = text.strip().rstrip("smhd")
    return float(number) * _UNITS[text.strip()[len(number) :] or "s"]


def _shown(number: float) -> str:
    """Return a number with a thousandth at most, and without zeros at its end."""
    return f"{number:.3f}".rstrip("0").rstrip(".")
