"""Chunks of rows, checked column by column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import compress
from typing import Any, TypeVar

from spooled_pipelines.server.core import validation
from spooled_pipelines.server.core.batches.records import Chunk, PayloadSchema
from spooled_pipelines.server.core.batches.rules import named_schema
from spooled_pipelines.server.core.errors import RefusedError, invalid, why_not
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.turns import key_number
from spooled_pipelines.server.services.validation.structs import (
    PARSED_AT_ONCE_BYTES,
    SURELY_SMALL_BYTES,
    check_chunk_request,
    check_object,
)
from spooled_pipelines.wire import batch_v1, limits

T = TypeVar("T")
# The statuses of jobs that get the payload of a row.
REPLACEABLE: Mapping[int, tuple[int, ...]] = {
    batch_v1.ON_CHANGED_KEEP: (),
    batch_v1.ON_CHANGED_REPLACE: (Status.PENDING, Status.SCHEDULED),
    batch_v1.ON_CHANGED_REPLACE_RETRIABLE: (
        *(Status.PENDING, Status.SCHEDULED),
        *(Status.DEADLETTER, Status.CANCELLED),
    ),
}
_CONTEXT = ("traceparent", "tracestate")
_ROW_COLUMNS = (
    *("priorities", "max_retries", "timeout_seconds", "scheduled_at", "tags"),
    *("retry_backoffs", "fair_keys", "limit_keys", "expires_at"),
)
_NONE: Mapping[int, str] = {}
# From so many rows on their payloads are first checked by column.
BY_COLUMN_ROWS = 512


@dataclass(frozen=True)
class Upload:
    """What an OpenBatch says about the rows that follow."""

    batch_id: str
    queue_name: str
    key_name: str
    name: str
    upload_id: str
    priority: int
    max_retries: int
    timeout_seconds: int
    retry_backoff: str | None
    expires_at: int | None
    tags: bytes | None
    # The tags that say where the upload is traced, which rows with tags of their own have as well.
    context: Mapping[str, str]
    generation: int
    part_id: str
    cancels_older: bool
    replaceable: tuple[int, ...]
    rows_id: str
    made_by: str
    schema: PayloadSchema | None
    weight: int
    fair_by: str
    limit_by: str
    limit_per_key: int


@dataclass(frozen=True, slots=True)
class RowsChecked:
    """How many rows a chunk has, and for each that was rejected why: what its answer needs."""

    number: int
    rows: int
    rejected: dict[int, str]


@dataclass(frozen=True, slots=True)
class CheckedChunk:
    """The rows that can be stored, and what was found of all of them."""

    chunk: Chunk
    found: RowsChecked


def checked_upload(request: batch_v1.OpenBatch) -> Upload:
    """Return what an OpenBatch says; RefusedError INVALID_ARGUMENT names what is wrong."""
    return Upload(
        batch_id=validation.batch_id(request.batch_id),
        queue_name=validation.queue_name(request.queue_name),
        key_name=validation.queue_name(request.key_name, "key_name"),
        name=validation.text("name", request.name, limits.BATCH_NAME_MAX),
        upload_id=validation.text("upload_id", request.upload_id, limits.BATCH_ID_MAX, shortest=1),
        priority=validation.priority(request.priority),
        max_retries=validation.max_retries_or_none(request.max_retries),
        timeout_seconds=validation.timeout_seconds(request.timeout_seconds),
        retry_backoff=validation.retry_backoff(request.retry_backoff),
        expires_at=validation.timestamp("expires_at", request.expires_at),
        tags=validation.tags(request.tags),
        context={name: request.tags[name] for name in _CONTEXT if name in request.tags},
        generation=validation.generation(request.generation),
        part_id=validation.text("part_id", request.part_id, limits.PART_ID_MAX),
        cancels_older=request.cancel_older,
        replaceable=_replaceable(request.on_changed),
        rows_id=validation.text("rows_id", request.rows_id, limits.REQUEST_ID_MAX),
        made_by=validation.text("made_by", request.made_by, limits.BATCH_NAME_MAX),
        schema=_schema(request),
        weight=validation.integer("weight", request.weight, 0, limits.WEIGHT_MAX),
        fair_by=validation.text("fair_by", request.fair_by, limits.COLUMN_KEY_MAX),
        limit_by=validation.text("limit_by", request.limit_by, limits.COLUMN_KEY_MAX),
        limit_per_key=validation.integer(
            "limit_per_key", request.limit_per_key, int(bool(request.limit_by)), limits.PER_KEY_MAX
        ),
    )


def _schema(request: batch_v1.OpenBatch) -> PayloadSchema | None:
    if not request.payload_schema:
        return None
    schema = validation.schema("payload_schema", request.payload_schema)
    return named_schema(request.batch_id, request.generation, schema)


def _replaceable(on_changed: batch_v1.OnChanged) -> tuple[int, ...]:
    statuses = REPLACEABLE.get(on_changed)
    if statuses is None:
        raise invalid(f"on_changed must be 0 to {max(REPLACEABLE)}, got {on_changed}")
    return statuses


def takes_long(request: bytes, chunk: batch_v1.JobChunk) -> bool:
    """Return whether the check of a chunk belongs into a thread."""
    if len(chunk.payloads) >= BY_COLUMN_ROWS and not _by_column.cache_info().currsize:
        return True
    if len(request) <= SURELY_SMALL_BYTES:
        return False
    return (
        len(request) > PARSED_AT_ONCE_BYTES
        or max(map(len, chunk.payloads), default=0) > SURELY_SMALL_BYTES
    )


@cache
def _by_column() -> Callable[[Sequence[bytes]], bool]:
    """Load numpy, which takes a tenth of a second: not where servers get single jobs alone."""
    from spooled_pipelines.server.services.validation import same_shape

    return same_shape.are_surely_valid


def _invalid_payloads(request: bytes, payloads: Sequence[bytes]) -> list[tuple[int, str]]:
    """Return the invalid payloads of a chunk: (place, message)."""
    if (
        len(payloads) >= BY_COLUMN_ROWS
        and max(map(len, payloads)) <= SURELY_SMALL_BYTES
        and why_not(partial(check_object, "payload"), payloads[0]) is None
        and _by_column()(payloads)
    ):
        return []
    return check_chunk_request(request, payloads)


def checked_chunk(
    upload: Upload, request: bytes, chunk: batch_v1.JobChunk, refused: Mapping[int, str] = _NONE
) -> CheckedChunk:
    """Return the chunk's rows as columns; `request` is the whole message that it came in.

    Some rows are refused already: why, by their place.
    """
    # A chunk that is stored already may come without its payloads.
    rows = len(chunk.payloads) or len(chunk.idempotency_keys)
    _check_lengths(chunk, rows)
    _check_limit(chunk, upload)
    payloads, keys = list(chunk.payloads), list(chunk.idempotency_keys)
    rejected = dict(refused)
    for place, message in _invalid_payloads(request, payloads):
        rejected.setdefault(place, message)
    _check_column(keys, _key_ok, _check_key, rejected)
    priorities = _numbers(
        chunk.priorities,
        upload.priority,
        validation.priority,
        rejected,
    )
    retries = _numbers(
        chunk.max_retries,
        upload.max_retries,
        validation.max_retries_or_none,
        rejected,
    )
    timeouts = _numbers(
        chunk.timeout_seconds,
        upload.timeout_seconds,
        validation.timeout_seconds,
        rejected,
    )
    checked = Chunk(
        batch_id=upload.batch_id,
        upload_id=upload.upload_id,
        number=chunk.number,
        keys=keys,
        payloads=payloads,
        priorities=priorities,
        max_retries=_without_marks(_defaulted(retries, upload.max_retries)),
        timeout_seconds=_defaulted(timeouts, upload.timeout_seconds),
        scheduled_at=_each(chunk.scheduled_at, _moment, rejected),
        tags=_each(chunk.tags, partial(_row_tags, upload.context), rejected) or upload.tags,
        generation=upload.generation,
        part_id=upload.part_id,
        retry_backoff=_or_default(
            _each(chunk.retry_backoffs, validation.retry_backoff, rejected), upload.retry_backoff
        ),
        expires_at=_or_default(
            _each(chunk.expires_at, partial(validation.timestamp, "expires_at"), rejected),
            upload.expires_at,
        ),
        replaceable=upload.replaceable,
        schema_id=None if upload.schema is None else upload.schema.schema_id,
        fair_keys=_each(
            chunk.fair_keys, partial(_key_number, "fair_keys", upload.fair_by), rejected
        ),
        limit_keys=_each(
            chunk.limit_keys, partial(_key_number, "limit_keys", upload.limit_by), rejected
        ),
        limit_per_key=upload.limit_per_key,
    )
    if rejected:
        checked = _without(checked, rows, rejected)
    return CheckedChunk(checked, RowsChecked(chunk.number, rows, rejected))


def _row_tags(context: Mapping[str, str], tags: batch_v1.Tags) -> bytes | None:
    """Return a row's tags, with the upload's context where there is room and it has none."""
    own = validation.checked_tags(tags)
    if not context or any(name in tags.tags for name in _CONTEXT):
        return own
    whole: bytes = batch_v1.Tags(tags={**tags.tags, **context}).SerializeToString(
        deterministic=True
    )
    return whole if len(whole) <= limits.TAGS_MAX_BYTES else own


def _check_lengths(chunk: batch_v1.JobChunk, rows: int) -> None:
    if rows > limits.CHUNK_ROWS_MAX:
        raise invalid(f"a chunk has {rows} rows, and at most {limits.CHUNK_ROWS_MAX} are allowed")
    if len(chunk.idempotency_keys) != rows:
        raise invalid(
            f"idempotency_keys has {len(chunk.idempotency_keys)} values for {rows} payloads; "
            "every row needs one"
        )
    for name in _ROW_COLUMNS:
        values = len(getattr(chunk, name))
        if values not in (0, rows):
            raise invalid(
                f"{name} has {values} values for {rows} payloads; give none or one for each"
            )
    if chunk.number < 0:
        raise invalid(f"number must be 0 or more, got {chunk.number}")


def _check_column(
    values: Sequence[T],
    all_fine: Callable[[Sequence[T]], bool],
    check: Callable[[T], object],
    rejected: dict[int, str],
) -> None:
    if not values or all_fine(values):
        return
    for place, value in enumerate(values):
        message = why_not(check, value)
        if message is not None:
            rejected.setdefault(place, message)


def _key_ok(keys: Sequence[str]) -> bool:
    return min(map(len, keys)) > 0 and max(map(len, keys)) <= limits.IDEMPOTENCY_KEY_MAX


def _check_key(key: str) -> None:
    validation.text("idempotency_key", key, limits.IDEMPOTENCY_KEY_MAX, shortest=1)


def _numbers(
    column: Iterable[int], default: int, check: Callable[[int], int], rejected: dict[int, str]
) -> Sequence[int] | int:
    values = list(column)
    if not values:
        return default

    def all_fine(numbers: Sequence[int]) -> bool:
        # What is checked of a number is its range.
        return not (why_not(check, min(numbers)) or why_not(check, max(numbers)))

    _check_column(values, all_fine, check, rejected)
    return values


def _defaulted(values: Sequence[int] | int, default: int) -> Sequence[int] | int:
    """Return the values with the upload's default in place of 0."""
    if isinstance(values, int):
        return values
    return [value or default for value in values]


def _without_marks(retries: Sequence[int] | int) -> Sequence[int] | int:
    """Return the retries with 0 where a row says that it has none."""
    if isinstance(retries, int) or limits.NO_RETRIES not in retries:
        return retries
    return [max(value, 0) for value in retries]


def _each(
    values: Sequence[Any], convert: Callable[[Any], T | None], rejected: dict[int, str]
) -> list[T | None] | None:
    if not values:
        return None
    converted: list[T | None] = []
    for place, value in enumerate(values):
        try:
            converted.append(convert(value))
        except RefusedError as refusal:  # noqa: PERF203  # each row has its own
            rejected.setdefault(place, refusal.message)
            converted.append(None)
    return converted


def _or_default(values: list[T | None] | None, default: T | None) -> list[T | None] | T | None:
    """Return the values with the upload's in place of those that say nothing."""
    return default if values is None else [value or default for value in values]


def _check_limit(chunk: batch_v1.JobChunk, upload: Upload) -> None:
    if chunk.limit_keys and not upload.limit_by:
        raise invalid("limit_keys needs limit_by and limit_per_key in `open`")


def _key_number(field: str, by: str, key: str) -> int | None:
    checked = validation.text(field, key, limits.COLUMN_KEY_MAX)
    return key_number(by, checked) if checked else None


def _moment(value: Any) -> int | None:
    return validation.timestamp("scheduled_at", value)


def _without(chunk: Chunk, rows: int, rejected: dict[int, str]) -> Chunk:
    keep = [place not in rejected for place in range(rows)]

    def kept(column: Any) -> Any:
        return list(compress(column, keep)) if isinstance(column, list) else column

    return replace(chunk, **{name: kept(column) for name, column in vars(chunk).items()})
