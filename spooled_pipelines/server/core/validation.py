"""Requests checked against the contract's limits; each refusal names the field and the limit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from google.protobuf.message import Message

from spooled_pipelines.retry_backoff import parse_backoff
from spooled_pipelines.server.core.errors import invalid, shortened
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.settlements import LeaseHolder
from spooled_pipelines.server.core.limits.queue_limits import QueueLimits
from spooled_pipelines.wire import batch_v1, limits, queue_admin_v1
from spooled_pipelines.wire.batch_v1 import Tags
from spooled_pipelines.wire.well_known import Timestamp

# The end of the year 9999, beyond which a Timestamp is not valid.
_LAST_SECOND = 253_402_300_799
# An entry is seven bytes at least.
_TAGS_MAX = limits.TAGS_MAX_BYTES // 7
_LEASE_ID = re.compile("[0-9a-f]{32}")


def queue_name(value: str, name: str = "queue_name") -> str:
    """Check a queue's name and return it."""
    return _name(name, value, limits.NAME_PATTERN, limits.QUEUE_NAME_MAX)


def worker_id(value: str, *, required: bool = True) -> str:
    """Check a worker's id and return it; it may be empty if it is not required."""
    if not value and not required:
        return value
    return _name("worker_id", value, limits.WORKER_ID_PATTERN, limits.WORKER_ID_MAX)


def batch_id(value: str) -> str:
    """Check a batch's id and return it."""
    return _name("batch_id", value, limits.WORKER_ID_PATTERN, limits.BATCH_ID_MAX)


def request_id(value: str) -> str:
    """Check the id of a call that may come twice, and return it; it may be empty."""
    if not value:
        return value
    return _name("request_id", value, limits.WORKER_ID_PATTERN, limits.REQUEST_ID_MAX)


def bind_request_id(request: Message) -> None:
    """Make a request's id, where it has one, that of this very request.

    So a client's id with another request is that of another call. A request that is sent again is
    the same, byte for byte, as it came: a name of a queue in it may have another meaning by then.
    """
    named = request.DESCRIPTOR.fields_by_name.get("request_id")
    if named is None:
        return
    value: str = getattr(request, named.name)
    if request_id(value):
        said = request.DESCRIPTOR.full_name.encode() + request.SerializeToString(deterministic=True)
        setattr(request, named.name, blake2b(said, digest_size=16).hexdigest())


def text(name: str, value: str, longest: int, *, shortest: int = 0) -> str:
    """Check a text's length in characters and return the text."""
    if not shortest <= len(value) <= longest:
        raise invalid(f"{name} has {len(value)} characters, and must have {shortest} to {longest}")
    return value


def schema(name: str, value: bytes) -> bytes:
    """Check the size of an Arrow schema, which the server does not read, and return it."""
    if not 1 <= len(value) <= limits.SCHEMA_MAX_BYTES:
        most = limits.SCHEMA_MAX_BYTES
        raise invalid(f"{name} has {len(value)} bytes, and must have 1 to {most}")
    return value


def integer(name: str, value: int, lowest: int, highest: int) -> int:
    """Check a number's range and return the number."""
    if not lowest <= value <= highest:
        raise invalid(f"{name} must be {lowest} to {highest}, got {value}")
    return value


def priority(value: int) -> int:
    """Check a job's priority and return it."""
    return integer("priority", value, limits.PRIORITY_MIN, limits.PRIORITY_MAX)


def max_retries(value: int) -> int:
    """Check a job's retries and return them, or the default."""
    return integer("max_retries", value, 0, limits.MAX_RETRIES_MAX) or limits.MAX_RETRIES_DEFAULT


def max_retries_or_none(value: int) -> int:
    """Check a job's retries as the batch extension says them, and return them, or the default."""
    return 0 if value == limits.NO_RETRIES else max_retries(value)


def timeout_seconds(value: int) -> int:
    """Check a job's time limit and return it, or the default."""
    return (
        integer("timeout_seconds", value, 0, limits.TIMEOUT_SECONDS_MAX)
        or limits.TIMEOUT_SECONDS_DEFAULT
    )


def retry_backoff(text: str) -> str | None:
    """Check how long a job waits before its retries and return it; None: as the server does."""
    if not text:
        return None
    try:
        return str(parse_backoff(text))
    except ValueError as error:
        raise invalid(f"retry_backoff {error}") from None


def lease_ms(name: str, *values: int) -> int:
    """Return a lease in milliseconds: the first of these fields that is set, or the default."""
    seconds = next((value for value in values if value), limits.LEASE_SECONDS_DEFAULT)
    return 1000 * integer(name, seconds, limits.LEASE_SECONDS_MIN, limits.LEASE_SECONDS_MAX)


def batch_size(*values: int) -> int:
    """How many jobs a Dequeue takes: the first of the field's names that is set, or 1."""
    size = next((value for value in values if value), 1)
    return integer("batch_size", size, 1, limits.DEQUEUE_MAX)


def page_size(value: int) -> int:
    """How many entries a page has at most, the default put in."""
    return integer("page_size", value, 0, limits.PAGE_JOBS_MAX) or limits.PAGE_JOBS_MAX


def optional_queue_name(value: str) -> str:
    """Check a queue's name, which may be empty, and return it."""
    return value and queue_name(value)


def page_token(token: str) -> int:
    """Return the number that a page goes on behind; 0 from the start."""
    if not token:
        return 0
    if not token.isascii() or not token.isdigit() or len(token) > 19 or int(token) > 2**62:
        raise invalid(f"page_token {shortened(token)} is not one that this server gave out")
    return int(token)


def generation(value: int) -> int:
    """Check a batch's generation and return it."""
    return integer("generation", value, 0, limits.GENERATION_MAX)


def timestamp(name: str, value: Timestamp) -> int | None:
    """Return a Timestamp in milliseconds; None at or before the epoch, which means at once."""
    if value.seconds > _LAST_SECOND or not 0 <= value.nanos < 1_000_000_000:
        raise invalid(f"{name} is not a valid time: seconds {value.seconds}, nanos {value.nanos}")
    milliseconds = value.seconds * 1000 + value.nanos // 1_000_000
    return milliseconds if milliseconds > 0 else None


def period(
    request: queue_admin_v1.ListJobsRequest | batch_v1.ListBatchesRequest,
) -> tuple[int, int]:
    """Return from when until before when a listing looks, in milliseconds."""
    until = 1000 * (_LAST_SECOND + 1)
    if request.HasField("created_before"):
        until = timestamp("created_before", request.created_before) or 0
    return timestamp("created_since", request.created_since) or 0, until


def statuses(given: Sequence[int]) -> list[int]:
    """Check statuses of jobs and return them."""
    return [integer("statuses", status, 1, len(Status.NAMES)) for status in given]


def tags(values: Mapping[str, str], *, name: str = "tags") -> bytes | None:
    """Tags, serialized; None where there are none."""
    if not values:
        return None
    # Looked at before they are copied, which takes long for a million of them.
    if len(values) > _TAGS_MAX or sum(map(len, values)) > limits.TAGS_MAX_BYTES:
        raise invalid(
            f"{name} has {len(values)} entries of more than 65536 bytes (64 KiB), which are allowed"
        )
    return checked_tags(Tags(tags=values), name)


def checked_tags(values: Tags, name: str = "tags") -> bytes | None:
    """Return tags that are a message already, serialized; None where there are none."""
    values.DiscardUnknownFields()
    size = values.ByteSize()
    if size > limits.TAGS_MAX_BYTES:
        raise invalid(f"{name} are {size} bytes, and at most 65536 (64 KiB) are allowed")
    packed: bytes = values.SerializeToString(deterministic=True)
    return packed or None


def idempotency_key(value: str) -> str | None:
    """Check a job's key and return it; None if there is none."""
    return text("idempotency_key", value, limits.IDEMPOTENCY_KEY_MAX) or None


def error(value: str) -> str:
    """Check what a worker says about a failure and return it."""
    return text("error", value, limits.ERROR_MAX, shortest=1)


def queue_limits(value: queue_admin_v1.QueueLimits) -> QueueLimits:
    """Check the limits of a queue and return them."""
    rate, burst, in_flight = (
        getattr(value, name) if value.HasField(name) else None
        for name in ("jobs_per_second", "burst", "max_in_flight")
    )
    # Written so that what is not a number is refused too.
    if rate is not None and not limits.QUEUE_RATE_MIN <= rate <= limits.QUEUE_RATE_MAX:
        raise invalid(
            f"jobs_per_second must be {limits.QUEUE_RATE_MIN:.5f} to {limits.QUEUE_RATE_MAX:.0f}, "
            f"got {rate:g}; to hand out nothing, pause the queue"
        )
    for name, jobs in (("burst", burst), ("max_in_flight", in_flight)):
        if jobs is not None:
            integer(name, jobs, 1, limits.QUEUE_JOBS_MAX)
    if burst is not None and rate is None:
        raise invalid("burst needs a rate: give jobs_per_second too")
    return QueueLimits(rate, burst, in_flight)


def lease_id(text: str) -> str | None:
    """Return the lease id that a claim asks for; None where it names none."""
    if text and _LEASE_ID.fullmatch(text) is None:
        raise invalid(
            f"lease_id must be 32 lower-case hexadecimal digits, got {len(text)} other characters"
        )
    return text or None


def unanswered(leases: Sequence[str]) -> Sequence[str]:
    """Return the leases of claims without an answer."""
    if len(leases) > limits.UNANSWERED_MAX:
        raise invalid(f"unanswered must be at most {limits.UNANSWERED_MAX}, got {len(leases)}")
    for lease in leases:
        lease_id(lease)
    return leases


def lease_holder(job_id: str, worker: str, lease_id: str, *, lease_required: bool) -> LeaseHolder:
    """Who settles a job."""
    if not job_id:
        raise invalid("job_id is empty; take it from the job that was claimed")
    if lease_required and not lease_id:
        raise invalid("lease_id is required; take it from the job that was claimed")
    if "\0" in lease_id:
        raise invalid("lease_id holds a NUL character; take it from the job that was claimed")
    return LeaseHolder(job_id, worker_id(worker, required=False), lease_id)


def _name(name: str, value: str, pattern: re.Pattern[str], longest: int) -> str:
    if not 1 <= len(value) <= longest or not pattern.fullmatch(value):
        start = ", not starting with . or -" if pattern is limits.NAME_PATTERN else ""
        raise invalid(f"{name} {shortened(value)} must be 1 to {longest} of A-Za-z0-9._-{start}")
    return value
