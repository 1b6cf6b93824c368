"""Times and durations as people type and read them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.durations import seconds_of
from spooled_pipelines.errors import InvalidArgumentError


def moment_of(option: str, text: str | None) -> datetime | None:
    """Return the time that an ISO 8601 text says, or the time so long ago, for `2h` or `7d`.

    Raises:
        UsageError: the text is neither; the message names the option.
    """
    if text is None:
        return None
    try:
        # A time without a zone is one of this machine.
        return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone()
    except ValueError:
        pass
    try:
        return datetime.now(timezone.utc) - timedelta(seconds=seconds_of(option, text))
    except (InvalidArgumentError, OverflowError):
        raise UsageError(
            f"{option} must be a time such as 2030-01-31T08:00Z, or how long ago, such as 2h; got "
            f"{text!r}"
        ) from None


def age(time: datetime | None) -> str:
    """Return how long ago a time was, such as `5 s` or `3 h`; "" for none."""
    ago = None if time is None else datetime.now(timezone.utc) - time
    return "" if ago is None else short_duration(ago.total_seconds())


def time_until(time: datetime | None) -> str:
    """Return how long it is until a time, such as `45 s`; "" for none."""
    left = None if time is None else time - datetime.now(timezone.utc)
    return "" if left is None else short_duration(left.total_seconds())


def short_duration(seconds: float) -> str:
    """Return a duration in its largest unit, such as `5 s` or `3 h`."""
    whole = max(0, round(seconds))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if whole >= 2 * size:
            return f"{whole // size:,} {unit}"
    return f"{whole} s"
