"""A payload is made per row: values of different types in one column arrive each as it is."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from spooled_pipelines import errors
from spooled_pipelines.testing import MemoryClient, server

MIXED = [1, "x", None, 2.5, [1, "y"], {"k": {"l": None}}, True, 2**53]


@pytest.fixture(scope="module")
def client() -> Iterator[MemoryClient]:
    with server() as client:
        yield client


def arrived(client: MemoryClient, data: Any, **options: Any) -> list[Any]:
    """The column `a` of each job, in the order of the rows."""
    queue = f"q-{uuid.uuid4().hex}"
    batch = client.enqueue_batch(data, queue, **options)
    jobs = {job.id: job for job in client.dequeue(queue, "w", batch_size=100)}
    return [jobs[job_id].payload["a"] for job_id in batch.ledger.column("job_id").to_pylist()]


@pytest.mark.parametrize("how", ["dicts", "pandas", "jsonl", "json"])
def test_each_value_of_a_mixed_column_arrives_as_it_is(
    client: MemoryClient, tmp_path: Path, how: str
) -> None:
    rows = [{"n": number, "a": value} for number, value in enumerate(MIXED)]
    data: Any = rows
    if how == "pandas":
        data = pd.DataFrame({"n": range(len(MIXED)), "a": pd.Series(MIXED, dtype=object)})
    elif how == "jsonl":
        data = tmp_path / "t.jsonl"
        data.write_text("\n".join(map(json.dumps, rows)))
    elif how == "json":
        data = tmp_path / "t.json"
        data.write_text(json.dumps(rows))
    assert arrived(client, data, key="n") == MIXED


@pytest.mark.parametrize("missing", [float("nan"), pd.NA, pd.NaT, np.float64("nan")])
@pytest.mark.parametrize("value", ["x", True, dt.date(2024, 1, 31), 1, Decimal("1.5")])
def test_what_pandas_has_for_no_value_is_null_among_values_of_any_type(
    client: MemoryClient, missing: Any, value: Any
) -> None:
    rows = [{"n": 0, "a": value}, {"n": 1, "a": missing}]
    assert arrived(client, rows, key="n")[1] is None


def test_types_that_change_behind_the_first_ten_thousand_rows_are_read(
    client: MemoryClient,
) -> None:
    rows = [{"n": n, "a": 1} for n in range(10_000)] + [{"n": -1, "a": "x"}]
    assert client.enqueue_batch(rows, "late", key="n").created == 10_001


def test_in_a_key_numbers_are_equal_by_value_and_a_text_or_a_bool_never_is(
    client: MemoryClient,
) -> None:
    rows = [{"a": value} for value in (1, 1.0, "1", True, 0.0, -0.0, 0)]
    batch = client.enqueue_batch(rows, "keys", key="a")
    assert (batch.created, batch.duplicates) == (4, 3)
    floats = client.enqueue_batch(pa.table({"a": [0.0, -0.0]}), "keys-of-floats", key="a")
    assert floats.created == 1


def test_an_integer_beyond_64_bits_keeps_its_digits_or_is_named(client: MemoryClient) -> None:
    rows = [{"n": 0, "a": 1}, {"n": 1, "a": 10**30}]
    assert arrived(client, rows, key="n", on_lossy="string") == [1, str(10**30)]
    with pytest.raises(errors.LossyValueError, match=r"column 'a', row 1: 1000"):
        client.enqueue_batch(rows, "large", key="n")


@pytest.mark.parametrize("number", ["9007199254740993.0", "12345678901234567.89", "1e400"])
@pytest.mark.parametrize("inside", ['{{"n": 1, "a": {}}}', '{{"n": 1, "a": {{"b": [{}]}}}}'])
def test_a_json_number_that_no_double_holds_is_named(
    client: MemoryClient, tmp_path: Path, number: str, inside: str
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"n": 0, "a": 1.5}\n' + inside.format(number) + "\n")
    with pytest.raises(errors.LossyValueError, match=r"row 1: "):
        client.enqueue_batch(path, "exact")
    with pytest.raises(errors.LossyValueError):
        client.enqueue_batch(pd.DataFrame({"p": [inside.format(number)]}), "p", payload="p")


def test_a_json_number_that_no_double_holds_is_sent_with_all_its_digits(
    client: MemoryClient, tmp_path: Path
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"n": 0, "a": 1.5}\n{"n": 1, "a": 12345678901234567.89}\n')
    assert arrived(client, path, key="n", on_lossy="string") == [1.5, "12345678901234567.89"]


@pytest.mark.parametrize("value", [b"bytes", object(), 1j])
def test_what_no_payload_holds_is_refused_with_its_row(client: MemoryClient, value: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=r"column 'a', row 1: .*Nothing was sent"):
        client.enqueue_batch([{"a": 1}, {"a": value}], "refused")


def test_a_dict_that_a_generator_fills_again_and_again_is_as_many_rows(
    client: MemoryClient,
) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        row: dict[str, Any] = {"n": 0, "a": {"b": [0]}}
        for number in range(3):
            row["n"] = number
            row["a"]["b"][0] = number
            yield row

    assert arrived(client, rows(), key="n") == [{"b": [0]}, {"b": [1]}, {"b": [2]}]


def test_none_first_is_not_an_empty_table(client: MemoryClient) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="NoneType") as refused:
        client.enqueue_batch(iter([None, {"a": 1}]), "none")
    assert not isinstance(refused.value, errors.EmptyTableError)
