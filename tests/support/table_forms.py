"""Random tables in each form that people have, with what a worker has to see of each row.

What is expected is said here in plain Python, from docs/types.md and docs/howto/files.md alone.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from pyarrow import types

from tests.support.arrow_strategies import EXACT, LOSSY_COLUMNS, Lossy, plain, tables, text_of

_UTC = dt.timezone.utc
_TEXT = st.text(st.characters(codec="utf-8"), max_size=8)


@dataclass(frozen=True)
class Form:
    """A table as `enqueue_batch` takes it.

    Attributes:
        kind: what it is.
        data: the table.
        expected: the payload of each row, or a function that raises `Lossy` for one that has none.
        may_refuse: whether it may also be refused where each value alone has a payload.
    """

    kind: str
    data: Any
    expected: list[Callable[[], dict[str, Any]]]
    may_refuse: bool = False


def _lazily(read: Callable[[Any], Any], rows: list[Any]) -> list[Callable[[], Any]]:
    return [lambda row=row: read(row) for row in rows]


# Arrow tables, and what other libraries make of them without a change.


def _holds(kind: pa.DataType, refused: Callable[[pa.DataType], bool]) -> bool:
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return refused(kind) or _holds(kind.value_type, refused)
    inner = [kind.field(index).type for index in range(kind.num_fields)]
    return refused(kind) or any(_holds(one, refused) for one in inner)


def _not_in_parquet(kind: pa.DataType) -> bool:
    # A struct without fields, and what Parquet stores as something else.
    views = (types.is_list_view, types.is_large_list_view, types.is_run_end_encoded)
    empty = types.is_struct(kind) and not kind.num_fields
    return empty or any(test(kind) for test in views) or isinstance(kind, pa.BaseExtensionType)


def _has_zero_byte(kind: pa.DataType) -> bool:
    return types.is_struct(kind) and any("\0" in field.name for field in kind)


def _not_in_polars(kind: pa.DataType) -> bool:
    # Its dates of milliseconds are times, its maps are lists, and its times are of a day alone.
    other = (types.is_date64, types.is_map, types.is_float16, types.is_decimal256, types.is_null)
    # Polars fails by itself on slices of fixed-size lists.
    lists = types.is_fixed_size_list
    more = (lists, types.is_decimal32, types.is_decimal64, types.is_time, types.is_dictionary)
    if _has_zero_byte(kind) or _not_in_parquet(kind):
        return True
    return any(test(kind) for test in (*other, *more))


def _to_pandas(table: pa.Table, _: Path) -> Any:
    return table.to_pandas(types_mapper=pd.ArrowDtype)


def _to_polars(table: pa.Table, _: Path) -> Any:
    return pl.from_arrow(table)


def _to_parquet(table: pa.Table, folder: Path) -> Path:
    path = folder / f"{uuid.uuid4().hex}.parquet"
    pq.write_table(table, path, row_group_size=5)
    return path


_OF_ARROW: dict[str, tuple[Callable[[pa.Table, Path], Any], Callable[[pa.DataType], bool]]] = {
    "arrow": (lambda table, _: table, lambda _: False),
    "pandas": (_to_pandas, _not_in_parquet),
    "polars": (_to_polars, _not_in_polars),
    "parquet": (_to_parquet, _not_in_parquet),
}


@st.composite
def _arrow_forms(draw: Any, kind: str, folder: Path) -> Form:
    convert, refused = _OF_ARROW[kind]
    columns = LOSSY_COLUMNS.filter(lambda made: not _holds(made[0], refused))
    table = draw(tables(columns))
    kept = [
        name
        for name, one in zip(table.schema.names, table.schema.types, strict=True)
        if not _holds(one, refused)
    ]
    if kind == "polars":
        # A test of its own says what becomes of them.
        table = table.rename_columns([name.replace("\0", "_0") for name in table.schema.names])
        kept = [name.replace("\0", "_0") for name in kept]
    table = table.select(kept or table.schema.names)
    if not kept:
        convert = _OF_ARROW["arrow"][0]
    kinds = {field.name: field.type for field in table.schema}

    def read(row: dict[str, Any]) -> dict[str, Any]:
        return {name: plain(value, kinds[name]) for name, value in row.items()}

    return Form(kind, convert(table, folder), _lazily(read, table.to_pylist()))


# Python's own values, of different types in one column.

_ZONES = st.sampled_from([_UTC, dt.timezone(dt.timedelta(hours=2))])
_NAIVE = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30))  # noqa: DTZ001
_SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**54), 2**54),
    st.integers(-(10**25), 10**25),
    st.floats(),
    _TEXT,
    st.decimals(-(10**9), 10**9, places=2),
    st.integers(-(10**12), 10**12).map(lambda number: Decimal(f"{number}e-5")),
    st.dates(),
    _NAIVE,
    _NAIVE.flatmap(lambda time: _ZONES.map(lambda zone: time.replace(tzinfo=zone))),
    st.times(),
    st.timedeltas(dt.timedelta(-9999), dt.timedelta(9999)),
    st.uuids(),
    st.binary(max_size=4),
)
_VALUES = st.recursive(
    st.none() | _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)
# Most columns have values of one type.
_COLUMNS = st.one_of(
    st.just(_VALUES),
    *(st.just(st.none() | one) for one in (_TEXT, st.floats(), st.dates())),
    st.just(st.none() | st.decimals(-(10**6), 10**6, places=3)),
    st.just(st.lists(st.decimals(-99, 99, places=1) | st.just(Decimal("1.50")), max_size=3)),
)


def seen_of(value: Any) -> Any:
    """Return what a worker sees of a value of Python; raise `Lossy` where it has no payload."""
    if isinstance(value, dict):
        return {name: seen_of(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [seen_of(inner) for inner in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, bytes) or (isinstance(value, int) and abs(value) > EXACT):
        raise Lossy(str(value))
    if isinstance(value, int | float):
        if math.isinf(value):
            raise Lossy(str(value))
        return None if math.isnan(value) else float(value)
    return text_of(value)


def _zones_in(value: Any) -> set[bool]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return set().union(*map(_zones_in, value))
    return {value.tzinfo is not None} if isinstance(value, dt.datetime | dt.time) else set()


@st.composite
def _python_forms(draw: Any, kind: str) -> Form:
    names = draw(st.lists(_TEXT.filter(bool), min_size=1, max_size=4, unique=True))
    count = draw(st.integers(1, 8))
    columns = {
        name: draw(st.lists(draw(_COLUMNS), min_size=count, max_size=count)) for name in names
    }
    rows = [{name: columns[name][index] for name in names} for index in range(count)]
    # Times with a zone and without in one column are refused, as Arrow has no type for both.
    mixed = any(len(_zones_in(values)) > 1 for values in columns.values())
    data: Any = rows
    if kind == "objects":
        data = pd.DataFrame({n: pd.Series(values, dtype=object) for n, values in columns.items()})
    return Form(kind, data, _lazily(seen_of, rows), mixed)


# JSON lines.

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | _TEXT
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def _json_forms(draw: Any, folder: Path) -> Form:
    names = draw(st.lists(_TEXT.filter(bool), min_size=1, max_size=4, unique=True))
    rows = draw(
        st.lists(st.fixed_dictionaries(dict.fromkeys(names, _JSON)), min_size=1, max_size=8)
    )
    path = folder / f"{uuid.uuid4().hex}.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return Form("json lines", path, _lazily(seen_of, rows))


# CSV files.

_PLAIN = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
_NULL_WORDS = ("NA", "N/A", "NaN", "NULL", "null")
_CELLS = st.one_of(
    st.integers(-(10**17), 10**17).map(str),
    st.integers(-999, 999).map(str),
    st.decimals(-999, 999, places=2).map(str),
    st.from_regex(r"[+-]?0?[0-9]{1,20}(\.[0-9]{1,3})?(E[0-9])?", fullmatch=True),
    st.sampled_from([*_NULL_WORDS, "true", "false", "True", "", "0x1F", "2024-01-31", "1,5"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
)
_CELL_COLUMNS = st.one_of(
    st.just(_CELLS),
    st.just(st.integers(-999, 999).map(str)),
    st.just(st.decimals(-999, 999, places=2).map(str) | st.sampled_from(_NULL_WORDS)),
    st.just(st.sampled_from(["true", "false"])),
)


def _is_plain(text: str) -> bool:
    return bool(_PLAIN.fullmatch(text)) and Decimal(text) == Decimal(repr(float(text)))


def _cells_seen(cells: list[str | None]) -> list[Any]:
    """Return what a worker sees of a column, by the table in docs/howto/files.md."""
    there = [cell for cell in cells if cell is not None]
    others = [cell for cell in there if cell not in _NULL_WORDS]
    if others and all(map(_is_plain, others)):
        return [None if cell in (None, *_NULL_WORDS) else float(cell) for cell in cells]
    if there and set(there) <= {"true", "false"}:
        return [None if cell is None else cell == "true" for cell in cells]
    return cells


@st.composite
def _csv_forms(draw: Any, folder: Path) -> Form:
    count = draw(st.integers(1, 8))
    kinds = draw(st.lists(_CELL_COLUMNS, min_size=1, max_size=4))
    columns = [draw(st.lists(st.none() | kind, min_size=count, max_size=count)) for kind in kinds]
    end = draw(st.sampled_from(["\n", "\r\n"]))

    def written(cell: str | None) -> str:
        if cell is None:
            return ""
        needs = not cell or re.search(r'[",\r\n]', cell) or draw(st.booleans())
        return '"' + cell.replace('"', '""') + '"' if needs else cell

    names = [f"c{number}" for number in range(len(columns))]
    lines = [",".join(["n", *names])]
    lines += [
        ",".join([str(index), *(written(column[index]) for column in columns)])
        for index in range(count)
    ]
    path = folder / f"{uuid.uuid4().hex}.csv"
    path.write_bytes((end.join(lines) + end).encode())
    seen = dict(zip(names, map(_cells_seen, columns), strict=True))
    rows = [{"n": index, **{name: seen[name][index] for name in names}} for index in range(count)]
    return Form("csv", path, _lazily(dict, rows))


def forms(folder: Path) -> Any:
    """Return a strategy of tables in any form; files are written into a folder."""
    return st.one_of(
        *(_arrow_forms(kind, folder) for kind in _OF_ARROW),
        _python_forms("dicts"),
        _python_forms("objects"),
        _json_forms(folder),
        _csv_forms(folder),
    )
