"""Which column, or which constant, becomes which part of a job."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from pyarrow import types

from spooled_pipelines.batch.encoding.tags import can_be_tags, is_text
from spooled_pipelines.batch.source.type_compat import is_json
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc import validation
from spooled_pipelines.wire import limits
from spooled_pipelines.wire.well_known import Timestamp

PayloadFunction: TypeAlias = Callable[[Any], Any]
# Columns; field -> column; a column of objects; or what makes the payload of a record batch.
PayloadOption: TypeAlias = Sequence[str] | MappingABC[str, str] | str | PayloadFunction | None
# For all rows; columns that each are a tag; or a column of structs or maps.
TagsOption: TypeAlias = MappingABC[str, str] | Sequence[str] | str | None


@dataclass(frozen=True)
class RowNumber:
    """A whole number of a job that each row may bring: its name, its column, what is allowed."""

    name: str
    column: str
    low: int
    high: int


@dataclass(frozen=True)
class Constants:
    """What all jobs of the upload share; 0 and None mean the server's default."""

    priority: int = 0
    max_retries: int = 0
    timeout_seconds: int = 0
    scheduled_at: Timestamp | None = None
    tags: MappingABC[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Mapping:
    """How a row becomes a job.

    Attributes:
        fields: the payload's field -> its column, sorted by field.
        whole: the column that holds all of the payload, as JSON text, struct or map; or None.
        function: what makes the payload's columns of a record batch; or None.
        tags: the column that holds a row's tags, or the columns that each are one; or None.
        key: the columns that identify a row, sorted; empty: its whole content does.
        numbers: priority, max_retries and timeout_seconds where a column gives them.
        scheduled_at: the column that says when a job is due, if one does.
        constants: the rest.
    """

    fields: tuple[tuple[str, str], ...]
    whole: str | None
    function: PayloadFunction | None
    tags: str | tuple[str, ...] | None
    key: tuple[str, ...]
    numbers: tuple[RowNumber, ...]
    scheduled_at: str | None
    constants: Constants

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read."""
        used = {column for _, column in self.fields}
        used.update(self.key, (number.column for number in self.numbers))
        used.update(name for name in (self.scheduled_at, self.whole) if name is not None)
        if self.tags is not None:
            used.update((self.tags,) if isinstance(self.tags, str) else self.tags)
        return tuple(sorted(used))


_NUMBERS = {
    "priority": (limits.PRIORITY_MIN, limits.PRIORITY_MAX),
    "max_retries": (0, limits.MAX_RETRIES_MAX),
    "timeout_seconds": (1, limits.TIMEOUT_SECONDS_MAX),
}


def make_mapping(
    schema: Any,
    *,
    key: str | Sequence[str] | None = None,
    payload: PayloadOption = None,
    priority: int | str | None = None,
    scheduled_at: datetime | str | None = None,
    max_retries: int | str | None = None,
    timeout_seconds: int | str | None = None,
    tags: TagsOption = None,
) -> Mapping:
    """Check the arguments of `enqueue_batch` against the columns there are.

    Raises:
        InvalidArgumentError: no such column, a column of the wrong type, a constant out of range.
    """
    _refuse_doubled_columns(schema.names)
    given = {"priority": priority, "max_retries": max_retries, "timeout_seconds": timeout_seconds}
    numbers: list[RowNumber] = []
    constants: dict[str, int] = {}
    for name, value in given.items():
        low, high = _NUMBERS[name]
        if isinstance(value, str):
            _number_column(schema, name, value)
            numbers.append(RowNumber(name, value, low, high))
        elif value is not None:
            constants[name] = validation.whole(value, name, low, high)
    due_column = scheduled_at if isinstance(scheduled_at, str) else None
    if due_column is not None:
        _due_column(schema, due_column)
    due = None
    if scheduled_at is not None and not isinstance(scheduled_at, str):
        due = validation.timestamp(scheduled_at, "scheduled_at")
    tag_columns = None if tags is None or isinstance(tags, MappingABC) else _tags(schema, tags)
    constant_tags = validation.text_map(tags, "tags") if isinstance(tags, MappingABC) else {}
    consumed = {number.column for number in numbers} | {due_column}
    if isinstance(tag_columns, str):
        consumed.add(tag_columns)
    whole = _whole(schema, payload)
    function = payload if callable(payload) else None
    return Mapping(
        fields=() if whole or function else _fields(schema, payload, consumed),
        whole=whole,
        function=function,
        tags=tag_columns,
        key=_key(schema, key),
        numbers=tuple(numbers),
        scheduled_at=due_column,
        constants=Constants(scheduled_at=due, tags=constant_tags, **constants),
    )


def _whole(schema: Any, payload: Any) -> str | None:
    """The column that is the payload, where it is one that holds objects."""
    if not isinstance(payload, str) or payload not in schema.names:
        return None
    kind = schema.field(payload).type
    return payload if holds_objects(kind) else None


def holds_objects(kind: Any) -> bool:
    """Whether a column's values can be whole payloads."""
    struct = types.is_struct(kind) or types.is_map(kind)
    return bool(struct or is_text(kind) or is_json(kind))


def _tags(schema: Any, tags: Any) -> str | tuple[str, ...]:
    if isinstance(tags, str):
        kind = _column(schema, tags, "tags")
        if not can_be_tags(kind) and not types.is_null(kind):
            raise InvalidArgumentError(
                f"tags={tags!r}: that column is of type {kind}; it needs a struct or map of texts. "
                f"For a tag of this name pass tags=[{tags!r}]."
            )
        return tags
    if not isinstance(tags, Sequence) or isinstance(tags, bytes) or not tags:
        raise InvalidArgumentError(
            f"tags={tags!r}: pass a dict of texts for all rows, a list of columns that each are a "
            "tag, or the column that holds a struct or map of them."
        )
    for column in tags:
        kind = _column(schema, column, "tags")
        if not is_text(kind):
            raise InvalidArgumentError(
                f"tags: the column {column!r} is of type {kind}, and a tag is a text. Cast it."
            )
    return tuple(sorted(set(tags)))


def _fields(schema: Any, payload: Any, consumed: set[str | None]) -> tuple[tuple[str, str], ...]:
    if payload is None:
        return tuple(sorted((name, name) for name in schema.names if name not in consumed))
    if isinstance(payload, (str, bytes)):
        raise InvalidArgumentError(
            f"payload={payload!r} is one text, and no column of JSON texts, structs or maps. Give "
            f"a list of columns, such as [{payload!r}], or a mapping of a payload field to its "
            'column, such as {"flight": "flight_number"}.'
        )
    pairs = payload.items() if isinstance(payload, MappingABC) else ((c, c) for c in payload)
    fields = []
    for name, column in pairs:
        if not isinstance(name, str):
            raise InvalidArgumentError(f"payload: the name of a field is a text, not {name!r}.")
        if not name.isprintable() and name != name.encode("utf-8", "replace").decode():
            raise InvalidArgumentError(f"payload: the field {name!r} is no valid text.")
        _column(schema, column, "payload")
        fields.append((name, column))
    if not fields:
        raise InvalidArgumentError("payload=[] leaves no column for the jobs; name at least one.")
    _refuse_doubled_columns([name for name, _ in fields])
    return tuple(sorted(fields))


def _key(schema: Any, key: str | Sequence[str] | None) -> tuple[str, ...]:
    if key is None:
        return ()
    columns = [key] if isinstance(key, str) else list(key)
    if not columns:
        raise InvalidArgumentError(
            "key=[] names no column. Name the columns that identify a row, or leave key out: "
            "then its whole content does."
        )
    for column in columns:
        _column(schema, column, "key")
    return tuple(sorted(set(columns)))


def _column(schema: Any, column: object, argument: str) -> Any:
    """The type of a column that an argument names."""
    if isinstance(column, str) and column in schema.names:
        return schema.field(column).type
    close = difflib.get_close_matches(str(column), schema.names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    shown = ", ".join(repr(name) for name in schema.names[:30])
    more = f" and {len(schema.names) - 30} more" if len(schema.names) > 30 else ""
    raise InvalidArgumentError(
        f"{argument}: there is no column {column!r}.{hint} There are: {shown}{more}."
    )


def _number_column(schema: Any, name: str, column: str) -> None:
    kind = _column(schema, column, name)
    if types.is_dictionary(kind):
        kind = kind.value_type
    # Whole numbers with gaps come from pandas as floats.
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind)):
        raise InvalidArgumentError(
            f"{name}={column!r}: that column is of type {kind}; it needs whole numbers."
        )


def _due_column(schema: Any, column: str) -> None:
    kind = _column(schema, column, "scheduled_at")
    if types.is_null(kind) or (types.is_timestamp(kind) and kind.tz is not None):
        return
    what = "has no time zone" if types.is_timestamp(kind) else f"is of type {kind}"
    raise InvalidArgumentError(
        f"scheduled_at={column!r}: that column {what}; it needs times with a zone, such as "
        f"df[{column!r}].dt.tz_localize('UTC') in pandas."
    )


def _refuse_doubled_columns(names: Sequence[str]) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InvalidArgumentError(
            f"there is more than one column named {', '.join(map(repr, doubled))}, and a payload "
            "has each name once. Rename or drop one of them."
        )
