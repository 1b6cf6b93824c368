"""A record batch of the table, to one piece of wire bytes per job.

A piece is fields 2 to 6 of an EnqueueRequest. JobChunk has the same fields under the same
numbers, repeated, so a chunk is the pieces of its rows one behind the other (each with its key,
field 7), and an EnqueueRequest is the queue's name and one piece.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spooled_pipelines.batch.encoding import protobuf_wire
from spooled_pipelines.batch.encoding.column_mapping import Mapping, RowNumber
from spooled_pipelines.batch.encoding.columns import Cells, by_value, of_array, side_by_side, tagged
from spooled_pipelines.batch.encoding.nested import field
from spooled_pipelines.batch.encoding.payload_objects import (
    made_payload,
    made_value,
    no_object,
    object_cells,
)
from spooled_pipelines.batch.encoding.schema_check import PayloadCheck
from spooled_pipelines.batch.encoding.tags import TOO_LARGE as TAGS_TOO_LARGE
from spooled_pipelines.batch.encoding.tags import tag_cells, tag_columns
from spooled_pipelines.batch.encoding.tags import too_large as too_large_tags
from spooled_pipelines.batch.encoding.values import OnLossy, Place, plain, value_cells
from spooled_pipelines.batch.staging.idempotency import row_numbers
from spooled_pipelines.rpc.struct import from_struct, json_size
from spooled_pipelines.wire.limits import PAYLOAD_MAX_BYTES
from spooled_pipelines.wire.well_known import Struct

_FIELD_TAGS = {
    "priority": protobuf_wire.PRIORITY,
    "max_retries": protobuf_wire.MAX_RETRIES,
    "timeout_seconds": protobuf_wire.TIMEOUT_SECONDS,
}
# JSON is at most six bytes for one on the wire (a control character): no row below this can be
# too large, and only those above it are measured one by one.
_SURELY_SMALL = PAYLOAD_MAX_BYTES // 6
_TOO_LARGE = f"the payload is more than {PAYLOAD_MAX_BYTES} bytes as JSON"
# The years 1 to 9999, which is what a Timestamp may say.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799


_OUT_OF_RANGE = "is not a whole number from"


def is_limit(reason: str) -> bool:
    """Whether a row was rejected for a limit of the contract, and not for what it lacks."""
    return reason in (_TOO_LARGE, TAGS_TOO_LARGE) or _OUT_OF_RANGE in reason


@dataclass(frozen=True)
class EncodedRows:
    """The rows of one record batch that can be jobs, and those that cannot.

    Attributes:
        rows: the row's number in the input, from 0 (int64).
        pieces: its wire bytes without the key (binary).
        identity: what its key is made from (binary).
        rejected: row number and reason of each of the others.

    Where rows bring tags a piece ends with them as a JobChunk has them.
    """

    rows: Any
    pieces: Any
    identity: Any
    rejected: tuple[tuple[int, str], ...]


def encode(
    batch: Any,
    mapping: Mapping,
    first_row: int,
    on_lossy: OnLossy = "raise",
    check: PayloadCheck | None = None,
) -> EncodedRows:
    """Encode `batch`, whose first row is number `first_row` of the input.

    `check` says of a payload why it is none.

    Raises:
        LossyValueError: a payload or key column holds what a payload cannot, and `on_lossy` is
            "raise".
        InvalidArgumentError: the function that makes the payload made something else.
    """
    columns = {name: plain(batch.column(name)) for name in mapping.columns}
    rows = row_numbers(first_row, batch.num_rows)
    made = None if mapping.function is None else made_payload(mapping.function, batch, first_row)
    keep, rejected = _rejected(columns, rows, mapping)
    if keep is not None:
        columns = {name: column.filter(keep) for name, column in columns.items()}
        rows = rows.filter(keep)
        made = None if made is None else made.filter(keep)
    count = len(rows)

    values: dict[str, Cells] = {}

    def value_of(column: str) -> Cells:
        if column not in values:
            # Nulls are filled once, though payload and key may both use the column.
            values[column] = value_cells(columns[column], place_of(column))
        return values[column]

    def place_of(column: str) -> Place:
        lossy = on_lossy if isinstance(on_lossy, str) else on_lossy.get(column, "raise")
        return Place(column, lambda index: int(rows[index].as_py()), lossy)

    def key_of(column: str) -> Cells:
        place = place_of(column)
        if place.on_lossy != "null":
            return value_of(column)
        # What the payload leaves out still tells rows apart.
        return value_cells(columns[column], replace(place, on_lossy="string"))

    if made is not None:
        fields = [(name, made_value(made, name, place_of)) for name in sorted(made.schema.names)]
        body = side_by_side([field(name, value) for name, value in fields], count)
    elif mapping.whole is not None:
        body = object_cells(columns[mapping.whole], place_of(mapping.whole))
    else:
        fields = [(name, value_of(column)) for name, column in mapping.fields]
        body = side_by_side([field(name, value) for name, value in fields], count)
    payload = body.wrapped(tagged(protobuf_wire.PAYLOAD))
    others = [_number_cells(columns[number.column], number) for number in mapping.numbers]
    if mapping.scheduled_at is not None:
        others.append(_due_cells(columns[mapping.scheduled_at]))
    tags = _tags(columns, mapping, count)
    if tags is not None:
        others.append(tags.wrapped(tagged(protobuf_wire.CHUNK_TAGS)))
    pieces = side_by_side([payload, *others], count).joined(count)
    identity = pieces
    if mapping.key:
        key = [field(name, key_of(name)) for name in mapping.key]
        identity = side_by_side(key, count).joined(count)

    unfit = dict.fromkeys(_too_large(body, count), _TOO_LARGE)
    if tags is not None:
        unfit.update(dict.fromkeys(too_large_tags(tags, count), TAGS_TOO_LARGE))
    if check is not None:
        unfit.update(_unchecked(body, count, check))
    if unfit:
        rejected.extend((int(rows[index].as_py()), reason) for index, reason in unfit.items())
        fit = pa.array([index for index in range(count) if index not in unfit], pa.int64())
        rows, pieces, identity = rows.take(fit), pieces.take(fit), identity.take(fit)
    return EncodedRows(rows, pieces, identity, tuple(rejected))


def _tags(columns: dict[str, Any], mapping: Mapping, count: int) -> Cells | None:
    if mapping.tags is None:
        return None
    if isinstance(mapping.tags, str):
        return tag_cells(tag_columns(columns[mapping.tags]), count)
    return tag_cells({name: columns[name] for name in mapping.tags}, count)


def _unchecked(body: Cells, count: int, check: PayloadCheck) -> dict[int, str]:
    """Which payloads the check refuses, and why."""
    found = {}
    for index, payload in enumerate(body.joined(count).to_pylist()):
        reason = check(from_struct(_parsed(payload)))
        if reason is not None:
            found[index] = reason
    return found


def _rejected(
    columns: dict[str, Any], rows: Any, mapping: Mapping
) -> tuple[Any, list[tuple[int, str]]]:
    """The rows that stay (None: all), and what the others' own columns already rule out; the
    first reason counts."""
    checks = [(_is_missing(columns[name]), f"key column {name!r} is null") for name in mapping.key]
    for number in mapping.numbers:
        bounds = f"{number.low} to {number.high}"
        reason = f"{number.name} (column {number.column!r}) {_OUT_OF_RANGE} {bounds}"
        checks.append((_out_of_range(columns[number.column], number), reason))
    if mapping.scheduled_at is not None:
        reason = f"scheduled_at (column {mapping.scheduled_at!r}) is not within the years 1 to 9999"
        checks.append((_out_of_years(columns[mapping.scheduled_at]), reason))
    if mapping.whole is not None:
        reason = f"payload column {mapping.whole!r} holds no JSON object"
        checks.append((no_object(columns[mapping.whole]), reason))
    rejected: list[tuple[int, str]] = []
    bad = None
    for mask, reason in checks:
        if not pc.any(mask, min_count=0).as_py():
            continue
        new = mask if bad is None else pc.and_not(mask, bad)
        rejected.extend((row, reason) for row in rows.filter(new).to_pylist())
        bad = mask if bad is None else pc.or_(bad, mask)
    return None if bad is None else pc.invert(bad), rejected


def _is_missing(column: Any) -> Any:
    if types.is_floating(column.type):
        return pc.is_null(column, nan_is_null=True)
    return column.is_null()


def _out_of_range(column: Any, number: RowNumber) -> Any:
    if types.is_null(column.type):
        return pa.repeat(pa.scalar(False), len(column))
    outside = pc.or_(pc.less(column, number.low), pc.greater(column, number.high))
    if types.is_floating(column.type):
        # NaN is null here too, and null means the default.
        broken = pc.and_not(pc.not_equal(pc.floor(column), column), pc.is_nan(column))
        outside = pc.or_(outside, broken)
    return outside.fill_null(False)


def _number_cells(column: Any, number: RowNumber) -> Cells:
    """The field in every row: null is 0, the default, since a chunk's lists have no gaps."""
    if types.is_null(column.type):
        column = column.cast(pa.int64())
    elif types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    tag = _FIELD_TAGS[number.name]
    whole = column.cast(pa.int64()).fill_null(0)
    return of_array(by_value(whole, lambda value: tag + protobuf_wire.varint(value)))


def _out_of_years(column: Any) -> Any:
    if types.is_null(column.type):
        return pa.repeat(pa.scalar(False), len(column))
    seconds = column.cast(pa.timestamp("s", column.type.tz), safe=False).cast(pa.int64())
    early = pc.less(seconds, _FIRST_SECOND)
    return pc.or_(early, pc.greater(seconds, _LAST_SECOND)).fill_null(False)


def _due_cells(column: Any) -> Cells:
    """The field in every row: null is an empty Timestamp, which is long past: due at once."""
    if types.is_null(column.type):
        column = column.cast(pa.timestamp("s", "UTC"))
    per_second = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[column.type.unit]
    factor = 1_000_000_000 // per_second

    def due(count: int) -> bytes:
        return protobuf_wire.with_length(
            protobuf_wire.SCHEDULED_AT, protobuf_wire.timestamp(count * factor)
        )

    made = by_value(column.cast(pa.int64()), due)
    return of_array(made.fill_null(protobuf_wire.with_length(protobuf_wire.SCHEDULED_AT, b"")))


def _too_large(body: Cells, count: int) -> list[int]:
    """Which payloads are above the limit as JSON."""
    if isinstance(body.size, int):
        suspects = list(range(count)) if body.size > _SURELY_SMALL else []
    else:
        where = pc.greater(body.size, _SURELY_SMALL)
        suspects = pc.indices_nonzero(where).to_pylist()
    if not suspects:
        return []
    payloads = body.joined(count)
    return [i for i in suspects if json_size(_parsed(payloads[i].as_py())) > PAYLOAD_MAX_BYTES]


def _parsed(payload: bytes) -> Struct:
    return Struct.FromString(payload)
