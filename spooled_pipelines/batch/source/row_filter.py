"""What of a table is read: which columns, and which rows.

A source that can read less does so (Parquet, datasets, SQL, lazy frames); for the others columns
and rows are taken out of each record batch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.source.text_options import DEFAULT_TEXT_OPTIONS, TextOptions
from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spooled_pipelines.batch.source.csv_types import ColumnTypes


@dataclass(frozen=True)
class Selection:
    """Columns and rows to read.

    Attributes:
        columns: their names; None: all.
        where: a pyarrow Expression that a row has to fulfil; None: every row.
        text: the same as SQL, for a source that speaks it.
        frame: the same as a polars expression, for a polars frame.
        index: read a DataFrame's index as columns.
        text_options: how text files are read.
        text_types: the types of a text file's columns, where they are known already.
        notes: filled while the table is opened: what people should know of how it is read.
    """

    columns: tuple[str, ...] | None = None
    where: Any = None
    text: str | None = None
    frame: Any = None
    index: bool = False
    text_options: TextOptions = DEFAULT_TEXT_OPTIONS
    text_types: ColumnTypes | None = None
    notes: list[str] = field(default_factory=list, compare=False)

    @property
    def all(self) -> bool:
        """Whether nothing is left out."""
        return self.columns is None and self.where is None

    def of(self, schema: Any, batches: Iterator[Any]) -> tuple[Any, Iterator[Any]]:
        """The schema and the record batches of what is selected.

        Raises:
            InvalidArgumentError: there is no such column, or `where` does not fit the columns.
        """
        self.check(schema)
        if self.all:
            return schema, batches
        names = schema.names if self.columns is None else list(self.columns)
        chosen = pa.schema([schema.field(name) for name in names], schema.metadata)
        return chosen, (self._of_batch(batch, names) for batch in batches)

    def check(self, schema: Any) -> None:
        """Refuse what the columns there are do not allow."""
        for name in self.columns or ():
            if name not in schema.names:
                shown = ", ".join(repr(there) for there in schema.names[:30])
                raise InvalidArgumentError(
                    f"columns: there is no column {name!r}. There are: {shown}."
                )
        if self.where is not None:
            try:
                schema.empty_table().filter(self.where)
            except (pa.ArrowException, TypeError) as error:
                said = " ".join(str(error).split())[:200]
                raise InvalidArgumentError(f"where does not fit the table: {said}") from None

    def arrow_only(self, what: str) -> None:
        """Refuse a `where` in a language that this source does not speak."""
        if self.text is not None:
            raise InvalidArgumentError(
                f"where={self.text!r} is SQL, and {what} does not speak it. Pass (column, "
                'operator, value) tuples such as [("amount", ">", 5)], or a pyarrow expression.'
            )
        if self.frame is not None:
            raise InvalidArgumentError(
                f"where is a polars expression, and {what} is no polars frame. Pass (column, "
                'operator, value) tuples such as [("amount", ">", 5)], or a pyarrow expression.'
            )

    def _of_batch(self, batch: Any, names: list[str]) -> Any:
        if self.where is not None:
            batch = batch.filter(self.where)
        return batch if self.columns is None else batch.select(names)


def make_selection(columns: Sequence[str] | None, where: Any, index: bool = False) -> Selection:
    """Check `columns=`, `where=` and `index=`.

    Raises:
        InvalidArgumentError: one of them is not what it has to be.
    """
    if not isinstance(index, bool):
        raise InvalidArgumentError(f"index is True or False, not {index!r}.")
    chosen = None if columns is None else _columns(columns)
    if where is None or isinstance(where, pc.Expression):
        return Selection(chosen, where, index=index)
    if isinstance(where, str):
        if not where.strip():
            raise InvalidArgumentError("where='' says nothing. Leave it out to read every row.")
        return Selection(chosen, text=where, index=index)
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(where, polars.Expr):
        return Selection(chosen, frame=where, index=index)
    return Selection(chosen, _of_tuples(where), index=index)


def _columns(columns: Sequence[str]) -> tuple[str, ...]:
    if isinstance(columns, str) or not isinstance(columns, Sequence):
        raise InvalidArgumentError(f"columns={columns!r}: pass a list of columns' names.")
    for name in columns:
        if not isinstance(name, str):
            raise InvalidArgumentError(f"columns: a column's name is a text, not {name!r}.")
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled or not columns:
        what = f"names {doubled[0]!r} twice" if doubled else "names no column"
        raise InvalidArgumentError(f"columns={list(columns)!r} {what}.")
    return tuple(columns)


def _of_tuples(where: Any) -> Any:
    from pyarrow.parquet import filters_to_expression

    try:
        return filters_to_expression(where)
    except (ValueError, TypeError, IndexError, pa.ArrowException) as error:
        raise InvalidArgumentError(
            f"where={where!r} cannot be understood ({error}). Pass (column, operator, value) "
            'tuples such as [("amount", ">", 5)], which all have to be true (a list of such '
            "lists: one of them), a pyarrow expression, or for SQL sources a text."
        ) from None
