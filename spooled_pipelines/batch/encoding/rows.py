"""A record batch of the table as wire bytes, one entry per job.

An encoded row is fields 2 to 6 of an EnqueueRequest. JobChunk has the same fields under the same
numbers, repeated, so a chunk is its encoded rows one after the other (each with its key, field 7),
and an EnqueueRequest is the queue's name and one encoded row.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache, reduce

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spooled_pipelines.batch.encoding import protobuf_wire
from spooled_pipelines.batch.encoding.backoffs import encode_backoffs, is_not_backoff
from spooled_pipelines.batch.encoding.column_mapping import ColumnMapping
from spooled_pipelines.batch.encoding.columns import (
    EncodedColumn,
    concat,
    from_array,
    length_delimited,
)
from spooled_pipelines.batch.encoding.integers import encode_integers, out_of_range
from spooled_pipelines.batch.encoding.moments import encode_moments, out_of_years
from spooled_pipelines.batch.encoding.payload_objects import (
    call_payload_function,
    encode_payload_column,
    encode_returned_column,
    is_not_object,
)
from spooled_pipelines.batch.encoding.payload_types import payload_schema
from spooled_pipelines.batch.encoding.schema_check import PayloadCheck
from spooled_pipelines.batch.encoding.tags import TOO_LARGE as TAGS_TOO_LARGE
from spooled_pipelines.batch.encoding.tags import encode_tags, tag_columns
from spooled_pipelines.batch.encoding.tags import too_large as too_large_tags
from spooled_pipelines.batch.encoding.turn_keys import encode_keys, too_long
from spooled_pipelines.batch.encoding.value_context import ValueContext
from spooled_pipelines.batch.encoding.values import encode_values, struct_field
from spooled_pipelines.batch.options.row_options import OnLossy
from spooled_pipelines.batch.values.arrow_types import (
    any_type,
    is_json,
    storage_array,
    to_text,
    without_zeros,
)
from spooled_pipelines.batch.values.exact_json import decimals_in, has_decimals
from spooled_pipelines.rpc.struct import from_struct, json_size
from spooled_pipelines.wire.limits import COLUMN_KEY_MAX, PAYLOAD_MAX_BYTES
from spooled_pipelines.wire.well_known import Struct

# JSON is at most six bytes for one on the wire (a control character): no row below this can be
# too large, and only those above it are measured one by one.
SURELY_SMALL = PAYLOAD_MAX_BYTES // 6
_TOO_LARGE = f"the payload is more than {PAYLOAD_MAX_BYTES} bytes as JSON"


class LimitReason(str):
    """Why a row was rejected, where the cause is a limit of the contract."""

    __slots__ = ()


@dataclass(frozen=True)
class EncodedRows:
    """The rows of one record batch that can be jobs, and those that cannot.

    Attributes:
        rows: the row's number in the input, from 0.
        encoded: its wire bytes without the key. Where rows bring tags they end with them as a
            JobChunk has them.
        identity: the bytes that its key is made from.
        rejected: row number and reason of each of the others.
        schema: of the payloads.
        no_retries: whether some of the rows are to have no retries.
    """

    rows: pa.Int64Array
    encoded: pa.BinaryArray
    identity: pa.BinaryArray
    rejected: tuple[tuple[int, str], ...]
    schema: pa.Schema
    no_retries: bool = False


def row_numbers(first: int, count: int) -> pa.Int64Array:
    """Return the numbers from `first` on."""
    return pc.add(_range(1 << count.bit_length()).slice(0, count), first)


@lru_cache(maxsize=32)
def _range(count: int) -> pa.Int64Array:
    # Made from Python's numbers for each record batch, it took longer than summing all hashes.
    return pa.array(range(count), pa.int64())


def encode_rows(
    record_batch: pa.RecordBatch,
    mapping: ColumnMapping,
    first_row: int,
    on_lossy: OnLossy = "raise",
    check: PayloadCheck | None = None,
    rounded: Counter[str] | None = None,
) -> EncodedRows:
    """Encode a record batch whose first row is number `first_row` of the input.

    `check` returns why a payload cannot be one; `rounded` counts the numbers that were rounded.

    Raises:
        LossyValueError: a payload or key column holds what a payload cannot, and `on_lossy` is
            "raise".
        InvalidArgumentError: the function that makes the payload returned something else.
    """
    columns = {name: storage_array(record_batch.column(name)) for name in mapping.columns}
    rows = row_numbers(first_row, record_batch.num_rows)
    returned = None
    if mapping.function is not None:
        returned = call_payload_function(mapping.function, record_batch, first_row)
    keep, rejected = _reject(columns, rows, mapping)
    if keep is not None:
        columns = {name: column.filter(keep) for name, column in columns.items()}
        rows = rows.filter(keep)
        returned = None if returned is None else returned.filter(keep)
    counter: Counter[str] = Counter() if rounded is None else rounded
    encoder = _RowEncoder(columns, rows, mapping, on_lossy, returned, counter)
    payload, tags = encoder.payload(), encoder.tags()
    encoded = encoder.jobs(payload, tags)
    identity = encoder.key() if mapping.key else encoder.content(encoded, tags)
    # They are not part of what the row is: the same row by another key is the same job.
    encoded = encoder.with_turn_keys(encoded)
    reasons = _reject_encoded(payload, tags, len(rows), check)
    if reasons:
        rejected.extend((int(rows[index].as_py()), reason) for index, reason in reasons.items())
        rest = pa.array([index for index in range(len(rows)) if index not in reasons], pa.int64())
        rows, encoded, identity = rows.take(rest), encoded.take(rest), identity.take(rest)
    schema = payload_schema(
        record_batch.schema, mapping, None if returned is None else returned.schema
    )
    return EncodedRows(rows, encoded, identity, tuple(rejected), schema, encoder.no_retries())


class _RowEncoder:
    """Encodes the rows of one record batch, all of which can be jobs by their own columns."""

    def __init__(
        self,
        columns: dict[str, pa.Array],
        rows: pa.Int64Array,
        mapping: ColumnMapping,
        on_lossy: OnLossy,
        returned: pa.RecordBatch | None,
        rounded: Counter[str],
        *,
        trims_decimals: bool = False,
    ) -> None:
        # Decimals are made texts once; they are trimmed for keys alone.
        self._decimals = {name for name, column in columns.items() if types.is_decimal(column.type)}
        self._columns = {
            name: to_text(column, name) if name in self._decimals else column
            for name, column in columns.items()
        }
        self._rows = rows
        self._mapping = mapping
        self._on_lossy = on_lossy
        # What the function made that makes the payloads, if there is one.
        self._returned = returned
        self._rounded = rounded
        self._trims_decimals = trims_decimals
        self._values: dict[str, EncodedColumn] = {}

    def payload(self) -> EncodedColumn:
        """Return the payloads."""
        column, returned = self._mapping.payload_column, self._returned
        if column is not None:
            return encode_payload_column(self._columns[column], self._context_of(column))
        if returned is not None:
            names = sorted(returned.schema.names)
            fields = [
                (name, encode_returned_column(returned, name, self._context_of)) for name in names
            ]
        else:
            fields = [(name, self._values_of(column)) for name, column in self._mapping.fields]
        return concat([struct_field(name, values) for name, values in fields], len(self._rows))

    def tags(self) -> EncodedColumn | None:
        """Return the tags that the rows bring, if they do."""
        tags, rows = self._mapping.tags, len(self._rows)
        if tags is None:
            return None
        if isinstance(tags, str):
            return encode_tags(tag_columns(self._columns[tags]), rows)
        return encode_tags({name: self._columns[name] for name in tags}, rows)

    def jobs(self, payload: EncodedColumn, tags: EncodedColumn | None) -> pa.BinaryArray:
        """Return the wire bytes of each row, without its key."""
        fields = [payload.with_length_prefix(length_delimited(protobuf_wire.PAYLOAD))]
        fields += [
            encode_integers(self._columns[one.column], one) for one in self._mapping.integers
        ]
        if self._mapping.scheduled_at is not None:
            due = self._columns[self._mapping.scheduled_at]
            fields.append(encode_moments(due, protobuf_wire.SCHEDULED_AT))
        if self._mapping.expires_at is not None:
            moments = self._columns[self._mapping.expires_at]
            fields.append(encode_moments(moments, protobuf_wire.CHUNK_EXPIRES_AT))
        if self._mapping.retry_backoff is not None:
            fields.append(encode_backoffs(self._columns[self._mapping.retry_backoff]))
        if tags is not None:
            prefix = length_delimited(protobuf_wire.CHUNK_TAGS)
            fields.append(tags.with_length_prefix(prefix))
        return concat(fields, len(self._rows)).to_array(len(self._rows))

    def with_turn_keys(self, encoded: pa.BinaryArray) -> pa.BinaryArray:
        """Return rows with the keys by which they take turns."""
        fields = (protobuf_wire.CHUNK_FAIR_KEY, protobuf_wire.CHUNK_LIMIT_KEY)
        keys = [
            encode_keys(self._columns[column], field_tag)
            for column, field_tag in zip(self._mapping.constants.key_columns, fields, strict=True)
            if column
        ]
        if not keys:
            return encoded
        return concat([from_array(encoded), *keys], len(self._rows)).to_array(len(self._rows))

    def no_retries(self) -> bool:
        """Return whether a column gives some rows no retries."""
        named = (one.column for one in self._mapping.integers if one.name == "max_retries")
        columns = [self._columns[name] for name in named]
        return any(
            pc.any(pc.equal(column, 0)).as_py()
            for column in columns
            if not types.is_null(column.type)
        )

    def content(self, encoded: pa.BinaryArray, tags: EncodedColumn | None) -> pa.BinaryArray:
        """Return the bytes that identify a row without a key: its job, with decimals by value."""
        returned, sent = self._returned, self._columns
        if returned is not None:
            sent = dict(zip(returned.schema.names, returned.columns, strict=True))
        may_differ = [
            _may_end_with_zeros(column)
            for name, column in sent.items()
            if _has_decimals(column) or (returned is None and name in self._decimals)
        ]
        mask = reduce(pc.or_, may_differ) if may_differ else None
        if mask is None or not pc.any(mask).as_py():
            return encoded
        # Only such rows are encoded again, and of them only what holds decimals.
        encoder = _RowEncoder(
            {name: self._by_value(name).filter(mask) for name in self._columns},
            self._rows.filter(mask),
            self._mapping,
            self._on_lossy,
            None if returned is None else returned.filter(mask),
            # What is rounded is not counted again.
            Counter(),
            trims_decimals=True,
        )
        encoder._values = {
            name: values.filter(mask)
            for name, values in self._values.items()
            if name not in self._decimals and not _has_decimals(self._columns[name])
        }
        tags = None if tags is None else tags.filter(mask)
        return pc.replace_with_mask(encoded, mask, encoder.jobs(encoder.payload(), tags))

    def key(self) -> pa.BinaryArray:
        """Return the bytes of the columns that identify a row."""
        fields = [struct_field(name, self._key_values_of(name)) for name in self._mapping.key]
        return concat(fields, len(self._rows)).to_array(len(self._rows))

    def _values_of(self, column: str) -> EncodedColumn:
        if column not in self._values:
            # Nulls are filled once, though payload and key may both use the column.
            values = encode_values(self._columns[column], self._context_of(column))
            self._values[column] = values
        return self._values[column]

    def _key_values_of(self, column: str) -> EncodedColumn:
        context, array = self._context_of(column), self._by_value(column)
        keeps_value = context.on_lossy in ("raise", "string")
        changes = column in self._decimals or _has_decimals(array)
        if keeps_value and not changes and not _may_have_negative_zeros(array):
            return self._values_of(column)
        # A value that the payload leaves out or rounds still tells rows apart.
        return encode_values(
            array,
            replace(
                context,
                on_lossy=context.on_lossy if keeps_value else "string",
                trims_decimals=True,
                unsigned_zeros=True,
            ),
        )

    def _by_value(self, column: str) -> pa.Array:
        """Return a column with decimals as texts that are equal where they are."""
        array = self._columns[column]
        return without_zeros(array) if column in self._decimals else array

    def _context_of(self, column: str) -> ValueContext:
        by_column = self._on_lossy
        lossy = by_column if isinstance(by_column, str) else by_column.get(column, "raise")
        rows = self._rows
        return ValueContext(
            column,
            lambda index: int(rows[index].as_py()),
            lossy,
            rounded=self._rounded,
            trims_decimals=self._trims_decimals,
        )


def _reject_encoded(
    payload: EncodedColumn, tags: EncodedColumn | None, count: int, check: PayloadCheck | None
) -> dict[int, str]:
    """Return which rows cannot be jobs as they are encoded, and why; the last reason counts."""
    reasons: dict[int, str] = dict.fromkeys(_too_large(payload, count), LimitReason(_TOO_LARGE))
    if tags is not None:
        too_large = too_large_tags(tags, count)
        reasons.update(dict.fromkeys(too_large, LimitReason(TAGS_TOO_LARGE)))
    if check is not None:
        reasons.update(_failed_checks(payload, count, check))
    return reasons


def _failed_checks(payload: EncodedColumn, count: int, check: PayloadCheck) -> dict[int, str]:
    """Return which payloads the check refuses, and why."""
    reasons = {}
    for index, content in enumerate(payload.to_array(count).to_pylist()):
        reason = check(from_struct(Struct.FromString(content)))
        if reason is not None:
            reasons[index] = reason
    return reasons


def _reject(
    columns: dict[str, pa.Array], rows: pa.Int64Array, mapping: ColumnMapping
) -> tuple[pa.BooleanArray | None, list[tuple[int, str]]]:
    """Return which rows stay (None: all), and the others with the first reason against each."""
    checks: list[tuple[pa.BooleanArray, str]] = [
        (_is_missing(columns[name]), f"key column {name!r} is null") for name in mapping.key
    ]
    for integer in mapping.integers:
        reason = (
            f"{integer.name} (column {integer.column!r}) is not a whole number from {integer.low} "
            f"to {integer.high}"
        )
        checks.append((out_of_range(columns[integer.column], integer), LimitReason(reason)))
    moments = {"scheduled_at": mapping.scheduled_at, "expires_at": mapping.expires_at}
    for option, column in moments.items():
        if column is not None:
            reason = f"{option} (column {column!r}) is not within the years 1 to 9999"
            checks.append((out_of_years(columns[column]), reason))
    if mapping.retry_backoff is not None:
        reason = (
            f"retry_backoff (column {mapping.retry_backoff!r}) is neither a number of seconds nor "
            "a text such as '5s'"
        )
        checks.append((is_not_backoff(columns[mapping.retry_backoff]), reason))
    for name, column in zip(("fair_by", "limit_by"), mapping.constants.key_columns, strict=True):
        if column:
            reason = f"{name} (column {column!r}) is longer than {COLUMN_KEY_MAX} characters"
            checks.append((too_long(columns[column]), LimitReason(reason)))
    if mapping.payload_column is not None:
        reason = f"payload column {mapping.payload_column!r} does not hold a JSON object"
        checks.append((is_not_object(columns[mapping.payload_column]), reason))
    rejected: list[tuple[int, str]] = []
    rejected_mask = None
    for mask, reason in checks:
        if not pc.any(mask, min_count=0).as_py():
            continue
        new = mask if rejected_mask is None else pc.and_not(mask, rejected_mask)
        rejected.extend((row, reason) for row in rows.filter(new).to_pylist())
        rejected_mask = mask if rejected_mask is None else pc.or_(rejected_mask, mask)
    return None if rejected_mask is None else pc.invert(rejected_mask), rejected


def _is_missing(column: pa.Array) -> pa.BooleanArray:
    if types.is_floating(column.type):
        return pc.is_null(column, nan_is_null=True)
    if is_json(column.type):
        is_null = pc.equal(pc.utf8_trim_whitespace(column.storage), "null")
        return pc.or_kleene(is_null, column.is_null()).fill_null(True)
    return column.is_null()


def _has_decimals(column: pa.Array) -> bool:
    """Return whether values may be decimals, whose zeros at the end make no other row."""
    if is_json(column.type):
        return has_decimals(column.storage)
    return any_type(column.type, types.is_decimal)


def _may_end_with_zeros(column: pa.Array) -> pa.BooleanArray:
    """Return true for each row whose decimals may have another text in a key."""
    if is_json(column.type):
        return decimals_in(column.storage).fill_null(False)
    if types.is_nested(column.type):
        return pa.repeat(pa.scalar(True), len(column))
    texts = to_text(column, "")
    has_zero = pc.and_(pc.ends_with(texts, "0"), pc.match_substring(texts, "."))
    return has_zero.fill_null(False)


def _may_have_negative_zeros(column: pa.Array) -> bool:
    """Return whether a value may be -0.0, which equals 0.0 and so is the same key."""
    if types.is_floating(column.type):
        return bool(pc.any(pc.equal(column, 0.0)).as_py())
    if is_json(column.type):
        return bool(pc.any(pc.match_substring(column.storage, "-0"), min_count=0).as_py())
    return any_type(column.type, types.is_floating)


def _too_large(payload: EncodedColumn, count: int) -> list[int]:
    """Return which payloads are above the limit as JSON."""
    if isinstance(payload.size, int):
        suspects = list(range(count)) if payload.size > SURELY_SMALL else []
    else:
        suspects = pc.indices_nonzero(pc.greater(payload.size, SURELY_SMALL)).to_pylist()
    if not suspects:
        return []
    contents = payload.to_array(count)
    return [
        index
        for index in suspects
        if json_size(Struct.FromString(contents[index].as_py())) > PAYLOAD_MAX_BYTES
    ]
