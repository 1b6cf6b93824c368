"""The mapping from columns and constants to the fields of a job."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from pyarrow import types

from spooled_pipelines.batch.encoding.tags import can_be_tags
from spooled_pipelines.batch.encoding.turn_keys import check_key_column
from spooled_pipelines.batch.options.row_options import (
    PayloadFunction,
    PayloadOption,
    RowOptions,
    TagsOption,
    parse_limit_by,
)
from spooled_pipelines.batch.values.arrow_types import is_json, is_text, repeated_names
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.retry_backoff import RetryBackoffOption, is_backoff
from spooled_pipelines.rpc import validation
from spooled_pipelines.wire import limits
from spooled_pipelines.wire.well_known import Timestamp


@dataclass(frozen=True)
class IntegerColumn:
    """A column that gives each job a whole number: the field's name, the column, the bounds."""

    name: str
    column: str
    low: int
    high: int


@dataclass(frozen=True)
class Constants:
    """The fields that all jobs of an upload share; 0 and None mean the server's default.

    `max_retries` is -1 where there are to be none, as the batch extension says it.
    """

    priority: int = 0
    max_retries: int = 0
    timeout_seconds: int = 0
    retry_backoff: str = ""
    weight: int = 0
    fair_by: str = ""
    expires_at: Timestamp | None = None
    limit_by: str = ""
    limit_per_key: int = 0
    scheduled_at: Timestamp | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def key_columns(self) -> tuple[str, str]:
        """The columns of keys by which rows take turns, and are limited; empty: none."""
        return self.fair_by, self.limit_by


@dataclass(frozen=True)
class ColumnMapping:
    """How a row becomes a job.

    Attributes:
        fields: the payload's field -> its column, sorted by field.
        payload_column: the column that holds all of the payload, as JSON text, struct or map; or
            None.
        function: makes the payload's columns of a record batch; or None.
        tags: the column that holds a row's tags, or the columns that each are one; or None.
        key: the columns that identify a row, sorted; empty: its whole content does.
        integers: priority, max_retries and timeout_seconds where a column gives them.
        scheduled_at: the column that says when a job is due, if one does.
        expires_at: the column that says by when a job has to start, if one does.
        retry_backoff: the column that says how long a job waits before its retries, if one does.
        constants: the rest. Those that name the columns of keys of rows do so for the server too.
    """

    fields: tuple[tuple[str, str], ...]
    payload_column: str | None
    function: PayloadFunction | None
    tags: str | tuple[str, ...] | None
    key: tuple[str, ...]
    integers: tuple[IntegerColumn, ...]
    scheduled_at: str | None
    retry_backoff: str | None
    expires_at: str | None
    constants: Constants

    @property
    def key_fields(self) -> list[str]:
        """The payload's fields that identify a row, as far as its columns are in the payload."""
        return [name for name, column in self.fields if column in self.key]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read."""
        used = {column for _, column in self.fields}
        used.update(self.key, (integer.column for integer in self.integers))
        named = (
            *(self.scheduled_at, self.retry_backoff, self.expires_at, self.payload_column),
            *self.constants.key_columns,
        )
        used.update(name for name in named if name)
        if self.tags is not None:
            used.update((self.tags,) if isinstance(self.tags, str) else self.tags)
        return tuple(sorted(used))


_INTEGER_BOUNDS = {
    "priority": (limits.PRIORITY_MIN, limits.PRIORITY_MAX),
    "max_retries": (0, limits.MAX_RETRIES_MAX),
    "timeout_seconds": (1, limits.TIMEOUT_SECONDS_MAX),
}


def map_columns(schema: pa.Schema, options: RowOptions) -> ColumnMapping:
    """Check the options against the columns there are.

    Raises:
        InvalidArgumentError: no such column, a column of the wrong type, a constant out of range.
    """
    _refuse_duplicate_names(schema.names)
    _check_on_lossy(schema, options)
    values = {
        "priority": options.priority,
        "max_retries": options.max_retries,
        "timeout_seconds": options.timeout_seconds,
    }
    integers: list[IntegerColumn] = []
    constants: dict[str, int] = {}
    for name, value in values.items():
        low, high = _INTEGER_BOUNDS[name]
        if isinstance(value, str):
            _check_integer_column(schema, name, value)
            integers.append(IntegerColumn(name, value, low, high))
        elif value is not None:
            constants[name] = validation.whole(value, name, low, high)
            if name == "max_retries":
                constants[name] = validation.max_retries(value)
    # Where rows are spread, it is the time at which the first of them is due.
    scheduled_at = None if options.spread or options.rate else options.scheduled_at
    due_column = due = None
    if isinstance(scheduled_at, str):
        due_column = scheduled_at
        _check_time_column(schema, "scheduled_at", due_column)
    elif scheduled_at is not None:
        due = validation.timestamp(scheduled_at, "scheduled_at")
    expires_at = validation.expiry(options.ttl, options.expires_at)
    expiry_column = expiry = None
    if isinstance(expires_at, str):
        expiry_column = expires_at
        _check_time_column(schema, "expires_at", expiry_column)
    elif expires_at is not None:
        expiry = validation.timestamp(expires_at, "expires_at")
    backoff_column, backoff = _map_backoff(schema, options.retry_backoff)
    limit_by, limit_per_key = parse_limit_by(options.limit_by)
    for name, key_column in (("fair_by", options.fair_by), ("limit_by", limit_by)):
        if key_column:
            check_key_column(_column_type(schema, key_column, name), name)
    tag_columns, constant_tags = _map_tags(schema, options.tags)
    consumed = {integer.column for integer in integers} | {
        due_column,
        backoff_column,
        expiry_column,
    }
    if isinstance(tag_columns, str):
        consumed.add(tag_columns)
    payload_column = _payload_column(schema, options.payload)
    function = options.payload if callable(options.payload) else None
    has_fields = payload_column is None and function is None
    return ColumnMapping(
        fields=_payload_fields(schema, options.payload, consumed) if has_fields else (),
        payload_column=payload_column,
        function=function,
        tags=tag_columns,
        key=_key_columns(schema, options.key),
        integers=tuple(integers),
        scheduled_at=due_column,
        retry_backoff=backoff_column,
        expires_at=expiry_column,
        constants=Constants(
            scheduled_at=due,
            retry_backoff=backoff,
            weight=options.weight or 0,
            fair_by=options.fair_by or "",
            expires_at=expiry,
            limit_by=limit_by,
            limit_per_key=limit_per_key,
            tags=constant_tags,
            **constants,
        ),
    )


def _check_on_lossy(schema: pa.Schema, options: RowOptions) -> None:
    # The columns that a payload function makes have names of their own.
    if isinstance(options.on_lossy, Mapping) and not callable(options.payload):
        for column in options.on_lossy:
            if column not in schema.names:
                raise InvalidArgumentError(f"on_lossy: there is no column {column!r}.")


def _payload_column(schema: pa.Schema, payload: PayloadOption) -> str | None:
    """Return the column that is the payload, where the option is one that holds objects."""
    if not isinstance(payload, str) or payload not in schema.names:
        return None
    arrow_type = schema.field(payload).type
    is_object = types.is_struct(arrow_type) or types.is_map(arrow_type)
    return payload if is_object or is_text(arrow_type) or is_json(arrow_type) else None


def _map_backoff(schema: pa.Schema, option: RetryBackoffOption | None) -> tuple[str | None, str]:
    """Return the column of backoffs, and the backoff of all jobs."""
    if not isinstance(option, str) or is_backoff(option):
        return None, validation.retry_backoff(option)
    if option not in schema.names:
        # It may have been meant for either.
        validation.retry_backoff(option)
    arrow_type = _column_type(schema, option, "retry_backoff")
    if types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    is_number = types.is_integer(arrow_type) or types.is_floating(arrow_type)
    if not is_number and not is_text(arrow_type) and not types.is_null(arrow_type):
        raise InvalidArgumentError(
            f"retry_backoff={option!r} must be a column of seconds or of texts such as '5s', got "
            f"one of type {arrow_type}."
        )
    return option, ""


def _map_tags(
    schema: pa.Schema, tags: TagsOption
) -> tuple[str | tuple[str, ...] | None, dict[str, str]]:
    """Return the column or columns of tags, and the tags of all jobs."""
    if tags is None:
        return None, {}
    if isinstance(tags, Mapping):
        return None, validation.text_map(tags, "tags")
    if isinstance(tags, str):
        arrow_type = _column_type(schema, tags, "tags")
        if not can_be_tags(arrow_type) and not types.is_null(arrow_type):
            raise InvalidArgumentError(
                f"tags={tags!r} must be a column of structs or maps of texts, got one of type "
                f"{arrow_type}. For a tag of this name pass tags=[{tags!r}]."
            )
        return tags, {}
    if not isinstance(tags, Sequence) or not tags:
        raise InvalidArgumentError(
            "tags must be a dict of texts for all rows, a list of columns that each are a tag, or "
            f"the column that holds a struct or map of them, got {tags!r}."
        )
    for column in tags:
        arrow_type = _column_type(schema, column, "tags")
        if not is_text(arrow_type):
            raise InvalidArgumentError(
                f"tags: the column {column!r} must be of texts, got type {arrow_type}. Cast it."
            )
    return tuple(sorted(set(tags))), {}


def _payload_fields(
    schema: pa.Schema, payload: PayloadOption, consumed: set[str | None]
) -> tuple[tuple[str, str], ...]:
    if payload is None:
        return tuple(sorted((name, name) for name in schema.names if name not in consumed))
    if isinstance(payload, (str, bytes)):
        raise InvalidArgumentError(
            f"payload={payload!r} is one text, and not a column of JSON texts, structs or maps. "
            f"Pass a list of columns, such as [{payload!r}], or a mapping of a payload field to "
            'its column, such as {"flight": "flight_number"}.'
        )
    pairs: Iterable[tuple[str, str]] = ()
    if isinstance(payload, Mapping):
        pairs = payload.items()
    elif not callable(payload):
        pairs = ((column, column) for column in payload)
    fields = []
    for name, column in pairs:
        if not isinstance(name, str):
            raise InvalidArgumentError(f"payload: a field's name must be text, got {name!r}.")
        if not name.isprintable() and name != name.encode("utf-8", "replace").decode():
            raise InvalidArgumentError(f"payload: a field's name must be valid text, got {name!r}.")
        _column_type(schema, column, "payload")
        fields.append((name, column))
    if not fields:
        raise InvalidArgumentError("payload=[] leaves no column for the jobs; name at least one.")
    _refuse_duplicate_names([name for name, _ in fields])
    return tuple(sorted(fields))


def _key_columns(schema: pa.Schema, key: str | Sequence[str] | None) -> tuple[str, ...]:
    if key is None:
        return ()
    columns = [key] if isinstance(key, str) else list(key)
    if not columns:
        raise InvalidArgumentError(
            "key=[] names no column. Name the columns that identify a row, or leave key out: "
            "then its whole content does."
        )
    for column in columns:
        _column_type(schema, column, "key")
    return tuple(sorted(set(columns)))


def _column_type(schema: pa.Schema, column: object, option: str) -> pa.DataType:
    """Return the type of a column that an option names."""
    if isinstance(column, str) and column in schema.names:
        return schema.field(column).type
    close = difflib.get_close_matches(str(column), schema.names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    names = ", ".join(repr(name) for name in schema.names[:30])
    more = f" and {len(schema.names) - 30} more" if len(schema.names) > 30 else ""
    raise InvalidArgumentError(
        f"{option}: there is no column {column!r}.{hint} There are: {names}{more}."
    )


def _check_integer_column(schema: pa.Schema, name: str, column: str) -> None:
    arrow_type = _column_type(schema, column, name)
    if types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    # Whole numbers with gaps come from pandas as floats.
    is_number = types.is_integer(arrow_type) or types.is_floating(arrow_type)
    if not is_number and not types.is_null(arrow_type):
        raise InvalidArgumentError(
            f"{name}={column!r} must be a column of whole numbers, got one of type {arrow_type}."
        )


def _check_time_column(schema: pa.Schema, option: str, column: str) -> None:
    arrow_type = _column_type(schema, column, option)
    is_time = types.is_timestamp(arrow_type)
    if types.is_null(arrow_type) or (is_time and arrow_type.tz is not None):
        return
    what = "times without one" if is_time else f"a column of type {arrow_type}"
    raise InvalidArgumentError(
        f"{option}={column!r} must be a column of times with a zone, got {what}. In pandas: "
        f"df[{column!r}].dt.tz_localize('UTC')."
    )


def _refuse_duplicate_names(names: Sequence[str]) -> None:
    duplicates = repeated_names(names)
    if duplicates:
        raise InvalidArgumentError(
            f"there is more than one column named {', '.join(map(repr, duplicates))}, and a "
            "payload has each name once. Rename or drop one of them."
        )
