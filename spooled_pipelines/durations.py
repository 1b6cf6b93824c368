"""Durations as people write them: `90`, `1m`, `1h 30m`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TypeAlias

from spooled_pipelines.errors import InvalidArgumentError

# Seconds, a timedelta, or a text such as "1m".
Duration: TypeAlias = "float | timedelta | str"

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|min|s|m|h|d|w)?(?=[\s\d]|$)", re.ASCII)


def seconds_in(text: str) -> float | None:
    """Return the seconds of a text such as `90`, `1m` or `1h 30m`; None if it is not one."""
    at, seconds = 0, 0.0
    while found := _PART.match(text, at):
        seconds += float(found[1]) * _SECONDS[found[2] or "s"]
        at = found.end()
    return seconds if at and not text[at:].strip() else None


def seconds_of(name: str, value: Duration) -> float:
    """Return the seconds of a duration.

    Raises:
        InvalidArgumentError: it is not a duration; the message calls it `name`.
    """
    seconds: float | None = None
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        seconds = seconds_in(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = value
    if seconds is None or not seconds >= 0:
        raise InvalidArgumentError(
            f'{name} must be seconds, a timedelta or a text such as "1m", got {value!r}'
        )
    return seconds
