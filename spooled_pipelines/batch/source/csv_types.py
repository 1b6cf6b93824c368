"""The types of the columns of a text file, decided by every value of the whole file.

A column is a number only if each of its values is written as a plain number that a double holds
exactly as written: `00501`, `+47`, `1E5` and account numbers of twenty digits stay text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.values.arrow_types import is_json
from spooled_pipelines.text import shown

if TYPE_CHECKING:
    from spooled_pipelines.batch.options.text_options import TextOptions

# What programs write for "no value" among numbers.
_NULLS_AMONG_NUMBERS = pa.array(["NA", "N/A", "NaN", "NULL", "null"])
_BOOLEANS = pa.array(["true", "false"])
# What a lenient reader takes for a number; a text column that holds some is worth a word.
_LOOKS_LIKE_A_NUMBER = (
    r"^([+-]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)([eE][+-]?[0-9]+)?|0[xX][0-9a-fA-F]+)$"
)
# What the user may call a number, which a double need not hold as it is written.
_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
# So many characters hold at most 15 digits, which a double always keeps.
_SURELY_EXACT_CHARACTERS = 15


@dataclass
class ColumnFacts:
    """What has been seen of one column's values so far.

    Attributes:
        asked: the user says that the values are numbers, so that they may be written in any way.
    """

    asked: bool = False
    values: bool = False
    only_numbers: bool = True
    numbers: bool = False
    fractions: bool = False
    long_numbers: bool = False
    only_booleans: bool = True
    null_words: bool = False
    number_like: bool = False

    def add(self, values: pa.Array, options: TextOptions) -> None:
        """Take in some of the column's values, an array of texts; null is an empty field."""
        values = values.drop_null()
        if not len(values):
            return
        self.values = True
        if not self.only_numbers and not self.only_booleans and self.number_like:
            # Nothing that follows changes what is known.
            return
        if self.only_booleans and not _all(pc.is_in(values, _BOOLEANS)):
            self.only_booleans = False
        if self.only_numbers:
            self._add_numbers(values, options)
        if not self.number_like:
            self.number_like = _any(pc.match_substring_regex(values, _LOOKS_LIKE_A_NUMBER))

    def _add_numbers(self, values: pa.Array, options: TextOptions) -> None:
        decimal_comma = options.decimal_comma
        is_null_word = pc.is_in(values, _NULLS_AMONG_NUMBERS)
        # A user who says which texts mean no value means these alone.
        if options.null_texts is None and _any(is_null_word):
            self.null_words = True
            values = values.filter(pc.invert(is_null_word))
        if not len(values):
            return
        point = "," if decimal_comma else r"\."
        is_plain = _all(pc.match_substring_regex(values, rf"^-?(0|[1-9][0-9]*)({point}[0-9]+)?$"))
        is_asked = self.asked and _all(pc.match_substring_regex(values, f"^{_NUMBER}$"))
        if not (is_plain or is_asked):
            self.only_numbers = False
            return
        self.numbers = True
        self.fractions = self.fractions or _any(
            pc.match_substring(values, "," if decimal_comma else ".")
        )
        is_long = pc.greater(pc.binary_length(values), _SURELY_EXACT_CHARACTERS)
        if not is_plain:
            # What has an exponent may be large in few characters.
            is_long = pc.or_(is_long, pc.match_substring_regex(values, "[eE]"))
        long = values.filter(is_long)
        if len(long):
            self.long_numbers = True
            texts = pc.unique(long).to_pylist()
            self.only_numbers = all(_is_exact(text.replace(",", ".")) for text in texts)

    @property
    def type(self) -> pa.DataType:
        """The column's Arrow type."""
        if not self.values:
            return pa.null()
        if self.only_numbers and self.numbers:
            return self.type_of_numbers
        return pa.bool_() if self.only_booleans else pa.string()

    @property
    def type_of_numbers(self) -> pa.DataType:
        """The type of a column of numbers: JSON, where a double may not hold all of them."""
        if not self.only_numbers:
            return pa.json_(pa.string())
        return pa.float64() if self.fractions or self.long_numbers else pa.int64()


def _is_exact(text: str) -> bool:
    try:
        return Decimal(text) == Decimal(repr(float(text)))
    except InvalidOperation:
        # An exponent that even a decimal does not hold.
        return False


def _any(mask: pa.Array) -> bool:
    return bool(pc.any(mask).as_py())


def _all(mask: pa.Array) -> bool:
    return bool(pc.all(mask).as_py())


@dataclass(frozen=True)
class ColumnTypes:
    """The types of a text file's columns, and what is worth saying of how they were found.

    Attributes:
        schema: the columns and their types.
        notes: sentences for people, such as "read as text: zip, phone".
        states: of each file by its path, before it was read.
    """

    schema: pa.Schema
    notes: tuple[str, ...] = ()
    states: Mapping[str, object] = field(default_factory=dict)


def column_types(
    names: Sequence[str], facts: Sequence[ColumnFacts], options: TextOptions
) -> ColumnTypes:
    """Return the types of the columns; what the user asked for comes first."""
    fields = []
    as_text: list[str] = []
    as_null: list[str] = []
    for name, seen in zip(names, facts, strict=True):
        wanted = options.type_of(name)
        if wanted is None:
            arrow_type = seen.type
            if arrow_type == pa.string() and seen.number_like:
                as_text.append(name)
            if seen.null_words and arrow_type in (pa.int64(), pa.float64()):
                as_null.append(name)
        elif wanted == "number":
            arrow_type = seen.type_of_numbers
        else:
            arrow_type = pa.string() if wanted == "text" else pa.bool_()
        fields.append(pa.field(name, arrow_type))
    notes = []
    if as_text:
        notes.append(f"read as text: {', '.join(as_text)}")
    if as_null:
        notes.append(f"NA and the like are read as null in: {', '.join(as_null)}")
    return ColumnTypes(pa.schema(fields), tuple(notes))


def cast(values: pa.Array, arrow_type: pa.DataType, options: TextOptions) -> pa.Array:
    """Convert a column of texts to its type.

    Raises:
        pyarrow.ArrowInvalid: a value is not of that type.
    """
    if pa.types.is_string(arrow_type):
        return values
    if pa.types.is_null(arrow_type):
        return pa.nulls(len(values))
    if pa.types.is_boolean(arrow_type):
        return values.cast(pa.bool_())
    if options.null_texts is None:
        values = pc.if_else(
            pc.is_in(values, _NULLS_AMONG_NUMBERS), pa.scalar(None, pa.string()), values
        )
    if options.decimal_comma:
        if _any(pc.match_substring(values, ".")):
            raise pa.ArrowInvalid("a number with a point, where numbers have a decimal comma")
        values = pc.replace_substring(values, ",", ".")
    if is_json(arrow_type):
        return pa.ExtensionArray.from_storage(arrow_type, _json_numbers(values))
    try:
        return values.cast(arrow_type)
    except pa.ArrowInvalid:
        # Arrow does not know all of the ways to write a number.
        return _json_numbers(values).cast(arrow_type)


def _json_numbers(values: pa.Array) -> pa.StringArray:
    """Return numbers as JSON writes them, with all their digits."""
    return pa.array([text and _json_number(text) for text in values.to_pylist()], pa.string())


def _json_number(text: str) -> str:
    try:
        if re.fullmatch(_NUMBER, text) is None:
            raise InvalidOperation
        # With an exponent all digits may be too many to be written.
        return str(Decimal(text)) if "e" in text.lower() else f"{Decimal(text):f}"
    except InvalidOperation:
        raise pa.ArrowInvalid(f"{shown(text)} is not a number") from None
