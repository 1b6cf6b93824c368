"""Times and durations as people type and read them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.durations import seconds_in


def seconds_of(option: str, text: str) -> float:
    """Return the seconds of `90`, `1.5h`, `1m` or `1h 30m`.

    Raises:
        UsageError: the text is not a duration; the message names the option.
    """
    seconds = seconds_in(text)
    if seconds is None:
        raise UsageError(f"{option} must be a duration such as 30s, 1m or 2h, got {text!r}")
    return seconds


def moment_of(option: str, text: str) -> datetime:
    """Return the time that an ISO 8601 text says, or the time so long ago, for `2h` or `7d`.

    Raises:
        UsageError: the text is neither; the message names the option.
    """
    try:
        said = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        try:
            ago = timedelta(seconds=seconds_of(option, text))
            return datetime.now(timezone.utc) - ago
        except (UsageError, OverflowError):
            raise UsageError(
                f"{option} must be a time such as 2030-01-31T08:00Z, or how long ago, such as 2h; "
                f"got {text!r}"
            ) from None
    # A time without a zone is one of this machine.
    return said.astimezone()


def age(time: datetime | None, now: datetime | None = None) -> str:
    """Return how long ago a time was, such as `5 s` or `3 h`; "" for none."""
    if time is None:
        return ""
    return short_duration(((now or datetime.now(timezone.utc)) - time).total_seconds())


def time_until(time: datetime | None, now: datetime | None = None) -> str:
    """Return how long it is until a time, such as `45 s`; "" for none."""
    if time is None:
        return ""
    return short_duration((time - (now or datetime.now(timezone.utc))).total_seconds())


def short_duration(seconds: float) -> str:
    """Return a duration in its largest unit, such as `5 s` or `3 h`."""
    whole = max(0, round(seconds))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if whole >= 2 * size:
            return f"{whole // size:,} {unit}"
    return f"{whole} s"
