"""The context of a value: its column and row, and what to do if a payload cannot hold it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from spooled_pipelines.batch.encoding.protobuf_wire import (
    VALUE_NULL,
    VALUE_NUMBER,
    VALUE_STRING,
    bytes_field,
    double,
)
from spooled_pipelines.batch.options.row_options import Lossy
from spooled_pipelines.errors import LossyValueError
from spooled_pipelines.text import shorten


@dataclass(frozen=True)
class ValueContext:
    """The source of an array's values, for the error that names one of them.

    Attributes:
        path: the column's name, with the path inside it where it is nested.
        row_of: the row in the input of the value at an index of the array.
        on_lossy: what to do with a value that does not fit.
        rounded: counts the numbers that were rounded, by column.
        trims_decimals: leave out zeros at the end of decimals, as in every key.
        unsigned_zeros: take 0.0 for -0.0, which equals it, as in the columns of a key.
        depth: messages around the value's content on the wire, as a payload's Struct counts 1.
    """

    path: str
    row_of: Callable[[int], int]
    on_lossy: Lossy
    depth: int = 3
    rounded: Counter[str] = field(default_factory=Counter)
    trims_decimals: bool = False
    unsigned_zeros: bool = False

    @property
    def refuses(self) -> bool:
        """Whether a value that is not a number and does not fit is an error."""
        return self.on_lossy in ("raise", "round")

    def raise_lossy(self, index: int, value: str, why: str, *, rounds: bool = False) -> NoReturn:
        """Raise the LossyValueError of the value at `index`; `rounds`: it has a nearest double."""
        nearest = ', or "round" to send the nearest number that fits' if rounds else ""
        row = self.row_of(index)
        short = shorten(value, 60)
        raise LossyValueError(
            f"column {self.path!r}, row {row}: {short} {why}. Nothing was sent.",
            hint='Change the column, or pass on_lossy="string" to send such values as text, or '
            f'"null" to leave them out{nearest}.',
            column=self.path,
            row=row,
            value=short,
        )

    def replacement(self, index: int, text: str, why: str, nearest: float | None) -> bytes:
        """Return the Value message in place of a single value that a payload cannot hold.

        `nearest` is the double that is closest to a number; None: there is none.
        """
        if self.on_lossy == "round" and nearest is not None:
            self.rounded[self.path] += 1
            return VALUE_NUMBER + double(nearest)
        if self.refuses:
            self.raise_lossy(index, text, why, rounds=nearest is not None)
        if self.on_lossy == "null":
            return VALUE_NULL
        return bytes_field(VALUE_STRING, text.encode())
