"""docs/types.md, row by row, through a real server; and any Arrow schema at all."""

from __future__ import annotations

import datetime as dt
import math
import os
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spooled_pipelines import SpooledClient, connect
from spooled_pipelines.errors import InvalidArgumentError, LossyValueError
from tests.support.arrow_strategies import LOSSY_COLUMNS, Lossy, OnLossy, plain, tables, typed
from tests.support.server_process import ServerProcess

DOC = Path(__file__).parents[2] / "docs" / "types.md"
BEYOND = 2**53 + 1
UTC = dt.timezone.utc


def extension(name: str, storage: pa.Array) -> pa.Array:
    class Unknown(pa.ExtensionType):
        def __init__(self) -> None:
            super().__init__(storage.type, name)

        def __arrow_ext_serialize__(self) -> bytes:
            return b""

    return pa.ExtensionArray.from_storage(Unknown(), storage)


def arrays(values: list[Any], *kinds: pa.DataType) -> list[Any]:
    return [pa.array(values, kind) for kind in kinds]


JSON = pa.json_(pa.string())
DAY = dt.date(2013, 1, 31)
TIME = dt.datetime(2013, 1, 31, 5)  # noqa: DTZ001
AWARE = dt.datetime(2013, 1, 31, 5, tzinfo=UTC)

# The row's first cell -> what stands for it, and what a worker sees of the values.
EXACT: dict[str, tuple[list[Any], list[Any]]] = {
    "null": ([pa.nulls(2)], [None, None]),
    "None, `NaT`, `pd.NA`": (
        [
            pd.Series([pd.NaT, None], dtype="datetime64[ns]"),
            pd.Series([pd.NA, None], dtype="Int64"),
            pd.Series([None, None], dtype="string"),
            pd.Series([pd.NaT, pd.NA], dtype=object),
        ],
        [None, None],
    ),
    "NaN, of any float type": (
        [
            *arrays([math.nan, 1.5], pa.float16(), pa.float32(), pa.float64()),
            pd.Series([math.nan, 1.5]),
            pd.Series([math.nan, 1.5], dtype=object),
        ],
        [None, 1.5],
    ),
    "bool": ([pa.array([True, None]), pd.Series([True, None], dtype="boolean")], [True, None]),
    "int8 … int32, uint8 … uint32": (
        [
            *arrays([0, 127], pa.int8(), pa.int16(), pa.int32()),
            *arrays([0, 127], pa.uint8(), pa.uint16(), pa.uint32()),
            pd.Series([0, 127], dtype="UInt8"),
        ],
        [0, 127],
    ),
    "int64, uint64, within ±2^53": (arrays([0, 2**53], pa.int64(), pa.uint64()), [0, 2**53]),
    "float16, float32, float64": (
        [
            *arrays([0.5, 2.0], pa.float16(), pa.float32(), pa.float64()),
            pd.Series([0.5, 2.0], dtype="float32"),
        ],
        [0.5, 2],
    ),
    "decimal32 … decimal256": (
        arrays(
            [Decimal("1.50"), Decimal("-20.00")],
            pa.decimal32(9, 2),
            pa.decimal64(18, 2),
            pa.decimal128(38, 2),
            pa.decimal256(76, 2),
        ),
        ["1.50", "-20.00"],
    ),
    "string, large string, string view": (
        [
            *arrays(["ä\x00", ""], pa.string(), pa.large_string(), pa.string_view()),
            pd.Series(["ä\x00", ""]),
        ],
        ["ä\x00", ""],
    ),
    "dictionary, categorical": (
        [pa.array(["a", None]).dictionary_encode(), pd.Series(pd.Categorical(["a", None]))],
        ["a", None],
    ),
    "pandas' periods and intervals": (
        [
            pd.Series(pd.PeriodIndex(["2013-01", None], freq="M")),
            pd.Series(["2013-01", None], dtype=object),
        ],
        ["2013-01", None],
    ),
    "run-end encoded": ([pc.run_end_encode(pa.array(["a", None, None]))], ["a", None, None]),
    "date32, date64": (arrays([DAY, None], pa.date32(), pa.date64()), ["2013-01-31", None]),
    "timestamp with a zone": (
        [
            *arrays([AWARE, None], pa.timestamp("s", "UTC"), pa.timestamp("ns", "Asia/Tokyo")),
            pd.Series([pd.Timestamp(AWARE).tz_convert("America/Lima"), pd.NaT]),
        ],
        ["2013-01-31T05:00:00Z", None],
    ),
    "timestamp without": (
        [*arrays([TIME, None], pa.timestamp("s"), pa.timestamp("ns")), pd.Series([TIME, None])],
        ["2013-01-31T05:00:00", None],
    ),
    "time32, time64": (
        arrays([dt.time(5), None], pa.time32("s"), pa.time32("ms"), pa.time64("us")),
        ["05:00:00", None],
    ),
    "duration": (
        [
            *arrays([dt.timedelta(hours=2), None], pa.duration("s"), pa.duration("ns")),
            pd.Series([pd.Timedelta(hours=2), pd.NaT]),
        ],
        ["P0DT2H0M0S", None],
    ),
    "list, large list, fixed-size list, list view": (
        arrays(
            [[1, None], None],
            pa.list_(pa.int8()),
            pa.large_list(pa.int8()),
            pa.list_(pa.int8(), 2),
            pa.list_view(pa.int8()),
            pa.large_list_view(pa.int8()),
        ),
        [[1, None], None],
    ),
    "struct": ([pa.array([{"a": 1, "b": None}, None])], [{"a": 1, "b": None}, None]),
    "map with text keys": (
        arrays(
            [[("a", 1)], None],
            pa.map_(pa.string(), pa.int8()),
            pa.map_(pa.large_string(), pa.int8()),
        ),
        [{"a": 1}, None],
    ),
    "extension `arrow.uuid`": ([pa.array([uuid.UUID(int=5)])], [str(uuid.UUID(int=5))]),
    "extension `arrow.json`": (
        [pa.ExtensionArray.from_storage(JSON, pa.array(['{"b": [1, null]}', "2.5", "null", None]))],
        [{"b": [1, None]}, 2.5, None, None],
    ),
    "extension `arrow.bool8`": (
        [pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, 1], pa.int8()))],
        [False, True],
    ),
    "objects of Python in pandas, rows of dicts": (
        [
            pd.Series([{"a": Decimal("1.50")}, {"b": [np.float32(0.5), DAY]}], dtype=object),
            [{"a": Decimal("1.50")}, {"b": [0.5, DAY]}],
        ],
        [{"a": "1.50"}, {"b": [0.5, "2013-01-31"]}],
    ),
}

# The second value of two is refused: how it is shown, and the text that says it.
LOSSY: dict[str, list[tuple[Any, str, str]]] = {
    "int64, uint64, beyond ±2^53": [
        (pa.array([1, BEYOND], pa.int64()), str(BEYOND), str(BEYOND)),
        (pa.array([1, 2**64 - 1], pa.uint64()), str(2**64 - 1), str(2**64 - 1)),
        (pd.Series([1, -BEYOND]), str(-BEYOND), str(-BEYOND)),
    ],
    "infinity": [
        (pa.array([1, math.inf], kind), "Infinity", "Infinity")
        for kind in (pa.float16(), pa.float32(), pa.float64())
    ]
    + [(pd.Series([1, -math.inf]), "-Infinity", "-Infinity")],
    "a date or timestamp of a year beyond ±32767": [
        (pa.array([0, 2**31 - 1], pa.date32()), "2147483647 D", "2147483647 D"),
        (pa.array([0, 2**55], pa.timestamp("s")), f"{2**55} s", f"{2**55} s"),
        (pa.array([0, -(2**55)], pa.timestamp("s", "UTC")), f"{-(2**55)} s", f"{-(2**55)} s"),
    ],
    "binary, large binary, fixed-size binary, binary view": [
        (pa.array([None, b"\xff\x00"], kind), "2 bytes", "/wA=")
        for kind in (pa.binary(), pa.large_binary(), pa.binary(2), pa.binary_view())
    ],
    "extension `arrow.json`": [
        (
            pa.ExtensionArray.from_storage(JSON, pa.array(["1", str(BEYOND)])),
            str(BEYOND),
            str(BEYOND),
        )
    ],
    "dictionary, categorical": [
        (pa.array([1, BEYOND]).dictionary_encode(), str(BEYOND), str(BEYOND))
    ],
    "run-end encoded": [(pc.run_end_encode(pa.array([1, BEYOND])), str(BEYOND), str(BEYOND))],
}

ALWAYS: dict[str, list[Any]] = {
    "map with other keys": [pa.array([[(1, 2)]], pa.map_(pa.int64(), pa.int64()))],
    "map with text keys": [pa.array([[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64()))],
    "any other extension (tensors, …)": [
        pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 2))),
        extension("nobody.knows", pa.array([1, 2])),
    ],
    "interval, union": [
        pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
        pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]),
        pa.UnionArray.from_dense(
            pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]
        ),
    ],
    "objects of Python in pandas, rows of dicts": [
        pd.Series([1, b"x"], dtype=object),
        [True, object()],
        [object()],
    ],
}


def table_of(values: Any) -> Any:
    """A table with the column x, as it would come."""
    if isinstance(values, pd.Series):
        return values.to_frame("x").assign(row=range(len(values)))
    if isinstance(values, list):
        return [{"x": value, "row": row} for row, value in enumerate(values)]
    return pa.table({"x": values, "row": range(len(values))})


def _cases(cases: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(value, id=f"{name[:30]}-{number}")
        for name, values in cases.items()
        for number, value in enumerate(values)
    ]


def published() -> dict[str, list[str]]:
    lines = [line for line in DOC.read_text().splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {row[0]: row[1:] for row in rows}


def test_the_table_and_the_tests_have_the_same_rows() -> None:
    rows = published()
    assert set(rows) == {*EXACT, *LOSSY, *ALWAYS}
    for name, (payload, *_, refused, text, rounded) in rows.items():
        assert bool(payload) == (name in EXACT), name
        assert bool(refused) or name not in {**LOSSY, **ALWAYS}, name
        assert bool(text) or name not in LOSSY, name
        assert bool(rounded) == bool(text), name


def test_every_type_of_arrow_has_a_row() -> None:
    tested = [values for values, _ in EXACT.values()]
    tested += [[case[0] for case in cases] for cases in LOSSY.values()]
    tested += list(ALWAYS.values())
    seen = {v.type.id for values in tested for v in values if isinstance(v, pa.Array)}
    known = {
        value: name
        for name, value in vars(pa.lib).items()
        if re.fullmatch(r"Type_[A-Z0-9_]+", name) and isinstance(value, int)
    }
    # Made by no constructor of Python's, and read like the one that is.
    unmade = {"Type_INTERVAL_MONTHS", "Type_INTERVAL_DAY_TIME"}
    assert {known[number] for number in known if number not in seen} - unmade == set()


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[SpooledClient]:
    with connect(server.address, api_key=server.api_key) as made:
        yield made


@contextmanager
def _echoed(client: SpooledClient, data: Any, **options: Any) -> Iterator[tuple[list[Any], Any]]:
    """What workers saw in x by row, and the table of the results, which are the payloads."""
    queue = f"types-{uuid4().hex[:12]}"
    batch = client.enqueue_batch(data, queue, **options)
    seen: dict[int, Any] = {}
    while jobs := client.dequeue(queue, "worker-1", batch_size=100):
        for job in jobs:
            seen[job.payload["row"]] = job.payload["x"]
            client.complete(job, result={"x": job.payload["x"]})
    results = batch.results()
    yield [seen[row] for row in range(len(seen))], results


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(value, expected, id=f"{name[:30]}-{number}")
        for name, (values, expected) in EXACT.items()
        for number, value in enumerate(values)
    ],
)
def test_what_a_worker_sees_and_what_comes_back(
    client: SpooledClient, values: Any, expected: list[Any]
) -> None:
    with _echoed(client, table_of(values)) as (seen, results):
        assert seen == expected
        assert [type(value) for value in seen] == [type(value) for value in expected]
        if not any(isinstance(value, dict | list) for value in expected):
            assert results.column("x").to_pylist() == expected


@pytest.mark.parametrize("case", _cases(LOSSY))
def test_what_does_not_fit_is_refused_or_sent_as_asked(client: SpooledClient, case: Any) -> None:
    values, shown, text = case
    with (
        pytest.raises(LossyValueError, match="on_lossy") as caught,
        _echoed(client, table_of(values)),
    ):
        pass
    assert (caught.value.column, caught.value.row, caught.value.value) == ("x", 1, shown)
    for on_lossy, expected in (("string", text), ("null", None), ({"x": "string"}, text)):
        with _echoed(client, table_of(values), on_lossy=on_lossy) as (seen, _):
            assert seen[1] == expected
            assert seen[0] in (None, 1, 0) or isinstance(seen[0], str)
    if text.lstrip("-").isdecimal():
        with _echoed(client, table_of(values), on_lossy="round") as (seen, _):
            assert seen[1] == float(text)
    else:
        with pytest.raises(LossyValueError), _echoed(client, table_of(values), on_lossy="round"):
            pass
    other: Any = {"row": "string"}
    with pytest.raises(LossyValueError), _echoed(client, table_of(values), on_lossy=other):
        pass


@pytest.mark.parametrize("values", _cases(ALWAYS))
@pytest.mark.parametrize("on_lossy", get_args(OnLossy))
def test_what_no_payload_holds_is_refused_whatever_is_asked(
    client: SpooledClient, values: Any, on_lossy: Any
) -> None:
    with (
        pytest.raises(InvalidArgumentError, match="column 'x'"),
        _echoed(client, table_of(values), on_lossy=on_lossy),
    ):
        pass


def test_a_value_that_is_left_out_still_tells_rows_apart(client: SpooledClient) -> None:
    rows = pa.table({"id": [BEYOND, BEYOND + 2, 1], "row": range(3)})
    for on_lossy in ("null", "round"):
        batch = client.enqueue_batch(rows, f"q-{uuid4().hex[:8]}", key="id", on_lossy=on_lossy)
        assert (batch.created, batch.duplicates) == (3, 0)


@pytest.mark.parametrize(
    ("on_lossy", "said"),
    [
        ({"x": "nothing"}, r"on_lossy\['x'\] must be"),
        ({"y": "null"}, "on_lossy: there is no column 'y'"),
    ],
)
def test_an_on_lossy_that_cannot_be_meant_is_refused(
    client: SpooledClient, on_lossy: Any, said: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        client.enqueue_batch([{"x": 1}], "q", on_lossy=on_lossy)


def arrives(client: SpooledClient, table: pa.Table, on_lossy: OnLossy) -> None:
    """Every value as it is, or as asked; or else nothing at all, for a value that is named."""
    queue = f"types-{uuid4().hex[:12]}"
    kinds = {field.name: field.type for field in table.schema}
    rows = table.to_pylist()
    try:
        expected = [
            {name: plain(value, kinds[name], on_lossy) for name, value in row.items()}
            for row in rows
        ]
    except Lossy:
        with pytest.raises(LossyValueError) as caught:
            client.enqueue_batch(table, queue, on_lossy=on_lossy)
        assert client.queue_stats(queue).total == 0
        name = next(name for name in kinds if _is_within(caught.value.column, name))
        with pytest.raises(Lossy):
            plain(rows[caught.value.row or 0][name], kinds[name], on_lossy)
        return
    batch = client.enqueue_batch(table, queue, on_lossy=on_lossy)
    seen = {}
    while jobs := client.dequeue(queue, "worker-1", batch_size=100):
        seen.update({job.id: job for job in jobs})
    arrived = [seen[job_id] for job_id in batch.ledger["job_id"].to_pylist()]
    assert [job.payload for job in arrived] == expected
    typed_rows = [
        {name: typed(value, kinds[name], on_lossy) for name, value in row.items()} for row in rows
    ]
    assert [job.row for job in arrived] == typed_rows
    # 3 and 3.0 are equal.
    assert [_kinds(job.row) for job in arrived] == [_kinds(row) for row in typed_rows]


def _kinds(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _kinds(inner) for name, inner in value.items()}
    if isinstance(value, dt.datetime | dt.timedelta):
        # pandas' are Python's as well, and these have no nanoseconds.
        return dt.datetime if isinstance(value, dt.datetime) else dt.timedelta
    return [_kinds(inner) for inner in value] if isinstance(value, list) else type(value)


def _is_within(path: str | None, column: str) -> bool:
    """Whether the path of a value leads into this column."""
    return path == column or (path or "").startswith((f"{column}.", f"{column}[", f"{column}{{"))


UNHURRIED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(UNHURRIED, max_examples=25)
@given(tables())
def test_any_table_arrives_at_a_worker_as_it_is(client: SpooledClient, table: pa.Table) -> None:
    arrives(client, table, "raise")


@settings(UNHURRIED, max_examples=25)
@given(tables(LOSSY_COLUMNS), st.sampled_from(get_args(OnLossy)))
def test_what_a_payload_cannot_hold_is_named_or_sent_as_asked_in_any_table(
    client: SpooledClient, table: pa.Table, on_lossy: OnLossy
) -> None:
    arrives(client, table, on_lossy)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_thousands_of_tables_arrive_as_they_are_or_as_asked(client: SpooledClient) -> None:
    examples = int(os.environ.get("SPOOLED_PROOF_TABLES", "3000"))
    sent: Counter[str] = Counter()

    @settings(UNHURRIED, max_examples=examples, database=None)
    @given(tables(LOSSY_COLUMNS), st.sampled_from(get_args(OnLossy)))
    def any_table(table: pa.Table, on_lossy: OnLossy) -> None:
        arrives(client, table, on_lossy)
        sent[on_lossy] += 1
        sent["values"] += table.num_rows * table.num_columns

    any_table()
    print(f"\n{sum(sent[name] for name in get_args(OnLossy))} tables: {dict(sent)}")
