"""Validate arguments against the limits of the contract, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, TypeVar

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.retry_backoff import RetryBackoffOption, backoff_of
from spooled_pipelines.text import shorten, shown
from spooled_pipelines.types import JobStatus
from spooled_pipelines.wire import limits

if TYPE_CHECKING:
    from spooled_pipelines.wire.well_known import Timestamp

T = TypeVar("T")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def queue_name(value: str) -> str:
    """Return a queue name of 1 to 100 letters, digits, `.`, `_` and `-`."""
    _text(value, "queue_name")
    if len(value) > limits.QUEUE_NAME_MAX or not limits.NAME_PATTERN.fullmatch(value):
        raise InvalidArgumentError(
            f"queue_name must be 1 to {limits.QUEUE_NAME_MAX} letters, digits, '.', '_' or '-', "
            f"not starting with '.' or '-', got {shown(value, 120)}"
        )
    return value


def worker_id(value: str) -> str:
    """Return a worker id of 1 to 128 letters, digits, `.`, `_`, `-`."""
    _text(value, "worker_id")
    if len(value) > limits.WORKER_ID_MAX or not limits.WORKER_ID_PATTERN.fullmatch(value):
        raise InvalidArgumentError(
            f"worker_id must be 1 to {limits.WORKER_ID_MAX} letters, digits, '.', '_' or '-', got "
            f"{shown(value, 120)}"
        )
    return value


def job_id(value: str) -> str:
    """Return a job id, which must not be empty."""
    _text(value, "job_id")
    if not value:
        raise InvalidArgumentError("job_id is empty")
    return value


def idempotency_key(value: str) -> str:
    """Return an idempotency key of 1 to 255 characters."""
    _text(value, "idempotency_key")
    if not 1 <= len(value) <= limits.IDEMPOTENCY_KEY_MAX:
        raise InvalidArgumentError(
            f"idempotency_key must have 1 to {limits.IDEMPOTENCY_KEY_MAX} characters, got "
            f"{len(value)}"
        )
    return value


def error_text(value: str) -> str:
    """Return an error text, which must not be empty; what exceeds 2048 characters is cut."""
    _text(value, "error")
    if not value:
        raise InvalidArgumentError("error is empty: say what went wrong")
    return shorten(value, limits.ERROR_MAX)


def whole(value: int, name: str, least: int, most: int) -> int:
    """Return a whole number between `least` and `most`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgumentError(
            f"{name} must be a whole number from {least} to {most}, got {shown(value, 120)}"
        )
    if not least <= value <= most:
        raise InvalidArgumentError(f"{name} must be from {least} to {most}, got {value}")
    return value


def one_of(value: object, name: str, choices: Sequence[str]) -> None:
    """Raise InvalidArgumentError if `value` is not one of the choices."""
    if value not in choices:
        *others, last = map(repr, choices)
        raise InvalidArgumentError(f"{name} must be {', '.join(others)} or {last}, got {value!r}.")


def priority(value: int) -> int:
    """Return a priority."""
    return whole(value, "priority", limits.PRIORITY_MIN, limits.PRIORITY_MAX)


def max_retries(value: int | None) -> int:
    """Return retries as the batch extension says them: 0 for the server's default, -1 for none."""
    if value is None:
        return 0
    return whole(value, "max_retries", 0, limits.MAX_RETRIES_MAX) or limits.NO_RETRIES


def timeout_seconds(value: int | None) -> int:
    """Return a job's time-out, 0 for the server's default."""
    return 0 if value is None else whole(value, "timeout_seconds", 0, limits.TIMEOUT_SECONDS_MAX)


def retry_backoff(value: RetryBackoffOption | None) -> str:
    """Return how long a job waits before its retries as a text, empty for the server's default."""
    try:
        return "" if value is None else str(backoff_of(value))
    except ValueError as error:
        raise InvalidArgumentError(f"retry_backoff {error}") from None


def expiry(ttl: float | timedelta | str | None, expires_at: T) -> T | datetime:
    """Return `expires_at`, or `ttl` (seconds, a timedelta or a text such as "2h") from now on."""
    if ttl is None:
        return expires_at
    if expires_at is not None:
        raise InvalidArgumentError("ttl= and expires_at= say the same thing: pass one of them")
    try:
        (seconds,) = backoff_of([ttl]).pauses
    except ValueError:
        raise InvalidArgumentError(
            f'ttl must be 0 seconds to 30 days, a timedelta or a text such as "2h", got {ttl!r}'
        ) from None
    return datetime.now(timezone.utc) + timedelta(seconds=seconds)


def lease_seconds(value: int) -> int:
    """Return the duration of a lease."""
    return whole(value, "lease_seconds", limits.LEASE_SECONDS_MIN, limits.LEASE_SECONDS_MAX)


def batch_size(value: int) -> int:
    """Return a number of jobs to claim."""
    return whole(value, "batch_size", 1, limits.DEQUEUE_MAX)


def limit(value: int, most: int | None = None) -> int:
    """Raise InvalidArgumentError if a number of items to list is not from 1 to `most`."""
    if most is not None:
        return whole(value, "limit", 1, most)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidArgumentError(f"limit must be 1 or more, got {shown(value, 120)}")
    return value


def queue_limits(
    jobs_per_second: float | None, burst: int | None, max_in_flight: int | None
) -> None:
    """Raise InvalidArgumentError unless the limits are a rate above zero and whole numbers."""
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
                f"jobs_per_second must be {least:.5f} to {most:.0f}, got "
                f"{shown(jobs_per_second, 120)}; to let nothing out, pause the queue"
            )
    if burst is not None:
        whole(burst, "burst", 1, limits.QUEUE_JOBS_MAX)
        if jobs_per_second is None:
            raise InvalidArgumentError(
                f"burst must come with jobs_per_second, got burst={burst} alone"
            )
    if max_in_flight is not None:
        whole(max_in_flight, "max_in_flight", 1, limits.QUEUE_JOBS_MAX)


def text_map(value: Mapping[str, str] | None, name: str) -> dict[str, str]:
    """Return a mapping from text to text, of at most 64 KiB together."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidArgumentError(f"{name} must be a mapping, got {type(value).__name__}")
    size = 0
    for key, text in value.items():
        _text(key, f"a key of {name}")
        _text(text, f"{name}[{key!r}]")
        size += len(key.encode()) + len(text.encode())
    if size > limits.TAGS_MAX_BYTES:
        raise InvalidArgumentError(
            f"{name} must have at most {limits.TAGS_MAX_BYTES} bytes (64 KiB), got {size}"
        )
    return dict(value)


def timestamp(value: datetime, name: str) -> Timestamp:
    """Return the Timestamp of an aware time."""
    if not isinstance(value, datetime):
        raise InvalidArgumentError(f"{name} must be a datetime, got {shown(value, 120)}")
    if value.utcoffset() is None:
        raise InvalidArgumentError(
            f"{name} must have a time zone, got {value.isoformat()}: pass a time such as "
            "datetime.now(timezone.utc) or value.astimezone()"
        )
    # A DAG that is read needs none of protobuf.
    from spooled_pipelines.wire.well_known import Timestamp

    since = value - _EPOCH
    seconds = since // timedelta(seconds=1)
    return Timestamp(seconds=seconds, nanos=since.microseconds * 1000)


def optional_timestamp(value: datetime | None, name: str) -> Timestamp | None:
    """Return the Timestamp of an aware time; None if there is none."""
    return None if value is None else timestamp(value, name)


def job_status(status: str) -> str:
    """Return the wire's name of a status, which messages accept as well as its number."""
    known = [one.value for one in JobStatus if one is not JobStatus.UNSPECIFIED]
    if status not in known:
        raise InvalidArgumentError(f"status must be one of {', '.join(known)}, got {str(status)!r}")
    return f"JOB_STATUS_{JobStatus(status).name}"


def _text(value: object, name: str) -> None:
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{name} must be text, got {shown(value, 120)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError(
            f"{name} must be valid Unicode, but it contains half a surrogate pair"
        ) from None
