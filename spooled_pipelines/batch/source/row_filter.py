"""Scans: which columns and which rows of a table are read.

A source that can read less does so (Parquet, datasets, lazy frames); for the others columns and
rows are taken out of each record batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spooled_pipelines.batch.options.row_options import RowFilter, RowOptions
from spooled_pipelines.batch.options.table_version import TableVersion, parse_table_version
from spooled_pipelines.batch.options.text_options import (
    DEFAULT_TEXT_OPTIONS,
    TextOptions,
    parse_text_options,
)
from spooled_pipelines.batch.values.arrow_types import repeated_names, storage_array
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.text import one_line

if TYPE_CHECKING:
    from spooled_pipelines.batch.source.csv_types import ColumnTypes

# A schema, and the record batches that have it.
Opened: TypeAlias = "tuple[pa.Schema, Iterator[pa.RecordBatch]]"


@dataclass(frozen=True)
class Scan:
    """Columns and rows to read.

    Attributes:
        columns: their names; None: all.
        where: an expression that must be true for a row; None: every row.
        index: read a DataFrame's index as columns.
        text_options: how text files are read.
        text_types: the types of a text file's columns, where they are known already.
        table_version: the version of a lake table to read; None: its current one.
        notes: filled while the table is opened: what people should know of how it is read.
        counts: "filtered": from how many rows the filter chooses, as far as it was read.
        versions_read: filled while a lake table is opened: the version that is read.
    """

    columns: tuple[str, ...] | None = None
    where: pc.Expression | None = None
    index: bool = False
    text_options: TextOptions = DEFAULT_TEXT_OPTIONS
    text_types: ColumnTypes | None = None
    table_version: TableVersion | None = None
    notes: list[str] = field(default_factory=list, compare=False)
    counts: Counter[str] = field(default_factory=Counter, compare=False)
    versions_read: list[int] = field(default_factory=list, compare=False)

    def columns_to_read(self, names: Sequence[str]) -> tuple[str, ...] | None:
        """Return the columns that a source needs to give; None: all, which a filter may need.

        Raises:
            InvalidArgumentError: there is no such column among `names`.
        """
        if self.where is not None:
            return None
        self._check_columns(names)
        return self.columns

    def apply(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Opened:
        """Return the schema and the record batches of what is to be read.

        Raises:
            InvalidArgumentError: there is no such column, or `where` does not fit the columns.
        """
        self.check(schema)
        if self.columns is None and self.where is None:
            return schema, batches
        names = schema.names if self.columns is None else list(self.columns)
        read = pa.schema([schema.field(name) for name in names], schema.metadata)
        return read, (self._apply_to(record_batch, names) for record_batch in batches)

    def check(self, schema: pa.Schema) -> None:
        """Refuse columns and filters that do not fit the schema."""
        self._check_columns(schema.names)
        if self.where is not None:
            try:
                _cast_views(schema.empty_table()).filter(self.where)
            except (pa.ArrowException, TypeError) as error:
                raise InvalidArgumentError(
                    f"where does not fit the table: {one_line(error)}. Compare a column with a "
                    "value of its own type: a number with a number, not with its text."
                ) from None

    def _check_columns(self, names: Sequence[str]) -> None:
        if self.columns is None:
            return
        known, repeated = set(names), set(repeated_names(names))
        for name in self.columns:
            if name in repeated:
                raise InvalidArgumentError(
                    f"columns: there is more than one column named {name!r}. Rename or drop one of "
                    "them."
                )
            if name not in known:
                first = ", ".join(repr(there) for there in names[:30])
                raise InvalidArgumentError(
                    f"columns: there is no column {name!r}. There are: {first}."
                )

    def _apply_to(self, record_batch: pa.RecordBatch, names: list[str]) -> pa.RecordBatch:
        if self.where is not None:
            self.counts["filtered"] += record_batch.num_rows
            record_batch = _cast_views(record_batch).filter(self.where)
        return record_batch if self.columns is None else record_batch.select(names)


_Table = TypeVar("_Table", "pa.RecordBatch", "pa.Table")


def _cast_views(table: _Table) -> _Table:
    """Return the table with ordinary strings and bytes, since Arrow filters no views of them.

    Nor does it filter runs of values, and views within lists and structs.
    """
    for index, arrow_type in enumerate(table.schema.types):
        ordinary = _without_views(arrow_type)
        if ordinary != arrow_type:
            column = table.column(index)
            if types.is_dictionary(arrow_type) or types.is_run_end_encoded(arrow_type):
                column = storage_array(column)
            table = table.set_column(index, table.schema.names[index], column.cast(ordinary))
    return table


def _without_views(kind: pa.DataType) -> pa.DataType:
    if types.is_run_end_encoded(kind):
        return _without_views(kind.value_type)
    if types.is_dictionary(kind):
        ordinary = _without_views(kind.value_type)
        return kind if ordinary == kind.value_type else ordinary
    if types.is_struct(kind):
        fields = map(kind.field, range(kind.num_fields))
        return pa.struct([field.with_type(_without_views(field.type)) for field in fields])
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_without_views(kind.value_type)))
    if types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_without_views(kind.value_type)))
    if types.is_string_view(kind):
        return pa.string()
    return pa.binary() if types.is_binary_view(kind) else kind


def parse_scan(options: RowOptions) -> Scan:
    """Check what the options say of reading: columns, rows, the index, texts, the version.

    Raises:
        InvalidArgumentError: one of them is not of the right form.
    """
    if not isinstance(options.index, bool):
        raise InvalidArgumentError(f"index must be True or False, got {options.index!r}.")
    columns = None if options.columns is None else _parse_columns(options.columns)
    where = options.where
    if where is not None and not isinstance(where, pc.Expression):
        where = _parse_tuples(where)
    text_options = parse_text_options(options.text_options)
    version = parse_table_version(options.table_version)
    return Scan(columns, where, options.index, text_options, table_version=version)


def _parse_columns(columns: Sequence[str]) -> tuple[str, ...]:
    if isinstance(columns, str) or not isinstance(columns, Sequence):
        raise InvalidArgumentError(f"columns must be a list of columns' names, got {columns!r}.")
    for name in columns:
        if not isinstance(name, str):
            raise InvalidArgumentError(f"columns: a column's name must be text, got {name!r}.")
    duplicates = repeated_names(columns)
    if duplicates or not columns:
        what = f"names {duplicates[0]!r} twice" if duplicates else "names no column"
        raise InvalidArgumentError(f"columns={list(columns)!r} {what}.")
    return tuple(columns)


def _parse_tuples(where: RowFilter) -> pc.Expression:
    from pyarrow.parquet import filters_to_expression

    try:
        return filters_to_expression(where)
    except (ValueError, TypeError, IndexError, pa.ArrowException):
        raise InvalidArgumentError(
            "where must be (column, operator, value) tuples such as "
            '[("amount", ">", 5)], which all have to be true (a list of such lists: one of them), '
            f"or a pyarrow expression, got {where!r}. To filter in SQL or in a data frame's own "
            "language, do so in the query or the frame."
        ) from None
