"""The limits of the contract, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.text import shorten, shown
from spooled_pipelines.wire import limits

if TYPE_CHECKING:
    from spooled_pipelines.wire.well_known import Timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def queue_name(value: str) -> str:
    """1 to 100 of letters, digits, `.`, `_`, `-`, not starting with `.` or `-`."""
    _text(value, "queue_name")
    if len(value) > limits.QUEUE_NAME_MAX or not limits.NAME_PATTERN.fullmatch(value):
        raise InvalidArgumentError(
            f"queue_name is {shown(value, 120)}, and must be 1 to {limits.QUEUE_NAME_MAX} letters, "
            "digits, '.', '_' or '-', not starting with '.' or '-'"
        )
    return value


def worker_id(value: str) -> str:
    """1 to 128 of letters, digits, `.`, `_`, `-`."""
    _text(value, "worker_id")
    if len(value) > limits.WORKER_ID_MAX or not limits.WORKER_ID_PATTERN.fullmatch(value):
        raise InvalidArgumentError(
            f"worker_id is {shown(value, 120)}, and must be 1 to {limits.WORKER_ID_MAX} letters, "
            "digits, '.', '_' or '-'"
        )
    return value


def job_id(value: str) -> str:
    """Any text but the empty one."""
    _text(value, "job_id")
    if not value:
        raise InvalidArgumentError("job_id is empty")
    return value


def idempotency_key(value: str) -> str:
    """1 to 255 characters."""
    _text(value, "idempotency_key")
    if not 1 <= len(value) <= limits.IDEMPOTENCY_KEY_MAX:
        raise InvalidArgumentError(
            f"idempotency_key has {len(value)} characters, and must have 1 to "
            f"{limits.IDEMPOTENCY_KEY_MAX}"
        )
    return value


def error_text(value: str) -> str:
    """At least one character; what is beyond 2048 is cut off, and the cut shown."""
    _text(value, "error")
    if not value:
        raise InvalidArgumentError("error is empty: say what went wrong")
    return shorten(value, limits.ERROR_MAX)


def whole(value: int, name: str, least: int, most: int) -> int:
    """Return the value if it is a whole number between `least` and `most`, else raise."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgumentError(
            f"{name} is {shown(value, 120)}, and must be a whole number from {least} to {most}"
        )
    if not least <= value <= most:
        raise InvalidArgumentError(f"{name} is {value}, and must be from {least} to {most}")
    return value


def one_of(value: object, name: str, choices: Sequence[str]) -> None:
    """Raise InvalidArgumentError where `value` is not one of the choices."""
    if value not in choices:
        *others, last = map(repr, choices)
        raise InvalidArgumentError(f"{name} must be {', '.join(others)} or {last}, got {value!r}.")


def priority(value: int) -> int:
    return whole(value, "priority", limits.PRIORITY_MIN, limits.PRIORITY_MAX)


def max_retries(value: int | None) -> int:
    return 0 if value is None else whole(value, "max_retries", 0, limits.MAX_RETRIES_MAX)


def timeout_seconds(value: int | None) -> int:
    return 0 if value is None else whole(value, "timeout_seconds", 0, limits.TIMEOUT_SECONDS_MAX)


def lease_seconds(value: int) -> int:
    return whole(value, "lease_seconds", limits.LEASE_SECONDS_MIN, limits.LEASE_SECONDS_MAX)


def batch_size(value: int) -> int:
    return whole(value, "batch_size", 1, limits.DEQUEUE_MAX)


def limit(value: int, most: int | None = None) -> int:
    """How many to list: 1 or more, and `most` at most."""
    if most is not None:
        return whole(value, "limit", 1, most)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidArgumentError(f"limit is {shown(value, 120)}, and must be 1 or more")
    return value


def queue_limits(
    jobs_per_second: float | None, burst: int | None, max_in_flight: int | None
) -> None:
    """Check for a rate above zero, whole numbers, and no burst without a rate."""
    least, most = limits.QUEUE_RATE_MIN, limits.QUEUE_RATE_MAX
    if jobs_per_second is not None:
        is_number = isinstance(jobs_per_second, int | float)
        # Written so that what is not a number is refused too.
        if (
            isinstance(jobs_per_second, bool)
            or not is_number
            or not least <= jobs_per_second <= most
        ):
            raise InvalidArgumentError(
                f"jobs_per_second is {shown(jobs_per_second, 120)}, and must be {least:.5f} to "
                f"{most:.0f}; to let nothing out, pause the queue"
            )
    if burst is not None:
        whole(burst, "burst", 1, limits.QUEUE_JOBS_MAX)
        if jobs_per_second is None:
            raise InvalidArgumentError(
                f"burst is {burst}: how many may go out at once of a rate; give jobs_per_second too"
            )
    if max_in_flight is not None:
        whole(max_in_flight, "max_in_flight", 1, limits.QUEUE_JOBS_MAX)


def text_map(value: Mapping[str, str] | None, name: str) -> dict[str, str]:
    """Text by text, together at most 64 KiB."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidArgumentError(f"{name} is a {type(value).__name__}, and must be a mapping")
    size = 0
    for key, text in value.items():
        _text(key, f"a key of {name}")
        _text(text, f"{name}[{key!r}]")
        size += len(key.encode()) + len(text.encode())
    if size > limits.TAGS_MAX_BYTES:
        raise InvalidArgumentError(
            f"{name} has {size} bytes, and must have at most {limits.TAGS_MAX_BYTES} (64 KiB)"
        )
    return dict(value)


def timestamp(value: datetime, name: str) -> Timestamp:
    """Return the Timestamp of an aware time."""
    if not isinstance(value, datetime):
        raise InvalidArgumentError(f"{name} is {shown(value, 120)}, and must be a datetime")
    if value.utcoffset() is None:
        raise InvalidArgumentError(
            f"{name} is {value.isoformat()}, which names no time zone, so no moment: give one, "
            "such as datetime.now(timezone.utc) or value.astimezone()"
        )
    # A DAG that is read needs none of protobuf.
    from spooled_pipelines.wire.well_known import Timestamp

    since = value - _EPOCH
    seconds = since // timedelta(seconds=1)
    return Timestamp(seconds=seconds, nanos=since.microseconds * 1000)


def _text(value: object, name: str) -> None:
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{name} is {shown(value, 120)}, and must be text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError(f"{name} holds half a surrogate pair: no valid text") from None
