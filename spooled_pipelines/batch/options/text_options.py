"""How a text file with separators (CSV, TSV) is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

from spooled_pipelines.errors import InvalidArgumentError

ColumnType = Literal["text", "number", "boolean"]
_COLUMN_TYPES = get_args(ColumnType)


@dataclass(frozen=True)
class TextOptions:
    """How a CSV or TSV file is read; the defaults suit a file as most programs write it.

    Attributes:
        separator: the character between two fields. None: a tab for `.tsv` files, else a comma.
        quote: the character around fields that hold separators or line breaks; None: there is none.
        encoding: how the file's characters are stored, as Python's codecs name it.
        decimal_comma: numbers are written `12,50`.
        null_texts: texts that mean "no value" in every column. None: an empty field, and `NA`,
            `N/A`, `NaN`, `NULL` and `null` in columns whose other values are all numbers.
        header: the first line that is read names the columns.
        column_names: the columns' names, instead of the header's.
        skip_lines: lines before the header (or the first row) that are not read.
        types: "text", "number" or "boolean" by column, or "text" for all; columns that are not
            named are decided by what the file holds.

    Raises:
        InvalidArgumentError: an attribute is not what it must be.
    """

    separator: str | None = None
    quote: str | None = '"'
    encoding: str = "utf-8"
    decimal_comma: bool = False
    null_texts: Sequence[str] | None = None
    header: bool = True
    column_names: Sequence[str] | None = None
    skip_lines: int = 0
    types: Mapping[str, ColumnType] | Literal["text"] | None = None

    def __post_init__(self) -> None:
        for name, value in (("separator", self.separator), ("quote", self.quote)):
            if value is not None and (
                not isinstance(value, str) or len(value.encode()) != 1 or value in "\r\n"
            ):
                raise InvalidArgumentError(
                    f"{name} must be one ASCII character other than a line break, got {value!r}."
                )
        if self.separator is not None and self.separator == self.quote:
            raise InvalidArgumentError(
                f"separator and quote must differ, got {self.separator!r} for both."
            )
        self._check_encoding()
        if self.decimal_comma and self.separator in (None, ","):
            raise InvalidArgumentError(
                "decimal_comma=True needs another separator than the comma: pass separator=';' "
                "or the one that the file has."
            )
        self._check_names()
        if not isinstance(self.skip_lines, int) or self.skip_lines < 0:
            raise InvalidArgumentError(
                f"skip_lines must be a number of lines, 0 or more, got {self.skip_lines!r}."
            )
        self._check_types()

    def _check_encoding(self) -> None:
        try:
            # Of an encoding that is not one of texts, such as base64, this is an error as well.
            "".encode(self.encoding)
        except (LookupError, TypeError, UnicodeError):
            raise InvalidArgumentError(
                "encoding must be one that Python knows, such as 'utf-8', 'latin-1' or 'utf-16', "
                f"got {self.encoding!r}."
            ) from None

    def _check_names(self) -> None:
        for name, values in (("null_texts", self.null_texts), ("column_names", self.column_names)):
            if values is not None and (
                isinstance(values, str) or not all(isinstance(value, str) for value in values)
            ):
                raise InvalidArgumentError(f"{name} must be a list of texts, got {values!r}.")
        if self.column_names is not None and not self.column_names:
            raise InvalidArgumentError("column_names must name the columns, got an empty list.")
        if not self.header and self.column_names is None:
            raise InvalidArgumentError(
                "header=False needs column_names: pass the names of the file's columns."
            )

    def _check_types(self) -> None:
        if self.types is None or self.types == "text":
            return
        if not isinstance(self.types, Mapping):
            raise InvalidArgumentError(
                f"types must be 'text' or a type by column's name, got {self.types!r}."
            )
        for column, given in self.types.items():
            if given not in _COLUMN_TYPES:
                raise InvalidArgumentError(
                    f"types: column {column!r} must be one of {', '.join(_COLUMN_TYPES)}, "
                    f"got {given!r}."
                )

    def type_of(self, column: str) -> ColumnType | None:
        """Return the type that the user wants for a column; None: decide by its values."""
        if self.types is None:
            return None
        if isinstance(self.types, str):
            return "text"
        return self.types.get(column)


DEFAULT_TEXT_OPTIONS = TextOptions()


def parse_text_options(value: object) -> TextOptions:
    """Return the options that a value says: a TextOptions, a mapping of its attributes, or None.

    Raises:
        InvalidArgumentError: it says something else.
    """
    if value is None:
        return DEFAULT_TEXT_OPTIONS
    if isinstance(value, TextOptions):
        return value
    names = [field.name for field in fields(TextOptions)]
    if not isinstance(value, Mapping) or not value.keys() <= set(names):
        raise InvalidArgumentError(
            f"text_options must be a TextOptions or a mapping of {', '.join(names)}, got {value!r}."
        )
    return TextOptions(**value)
