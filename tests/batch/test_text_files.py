"""A text file arrives as it is: no digit, no line break and no row is changed without a word."""

from __future__ import annotations

import csv
import gzip
import io
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines.batch.options.text_options import TextOptions
from spooled_pipelines.batch.source import csv_records
from spooled_pipelines.batch.source.csv_records import RecordCutter, pieces
from spooled_pipelines.batch.source.open import open_source
from spooled_pipelines.batch.source.row_filter import Scan
from spooled_pipelines.errors import (
    EmptyTableError,
    InvalidArgumentError,
    LossyValueError,
    SourceError,
)
from spooled_pipelines.testing import server


def read(
    folder: Path, text: str | bytes, name: str = "t.csv", **options: Any
) -> list[dict[str, Any]]:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    source = open_source(str(path), Scan(text_options=TextOptions(**options)))
    return [row for batch in source.batches for row in batch.to_pylist()]


def refusal(folder: Path, text: str | bytes, name: str = "t.csv", **options: Any) -> str:
    with pytest.raises(InvalidArgumentError) as refused:
        read(folder, text, name, **options)
    return str(refused.value)


@pytest.mark.parametrize(
    "digits",
    ["12345678901234567890", "19999999999999999.99", "00501", "+4712345678", "1E5", "0x1F", ".5"],
)
def test_what_a_double_does_not_hold_as_written_stays_text(tmp_path: Path, digits: str) -> None:
    assert read(tmp_path, f"a\n{digits}\n1\n") == [{"a": digits}, {"a": "1"}]


def test_digits_in_quotes_are_judged_by_what_is_written(tmp_path: Path) -> None:
    assert read(tmp_path, 'a,b\n"007","7"\n') == [{"a": "007", "b": 7}]


@pytest.mark.parametrize(
    ("written", "value"), [("12.50", 12.5), ("-3", -3), ("0.1", 0.1), ("9007199254740992", 2.0**53)]
)
def test_plain_numbers_that_a_double_holds_are_numbers(
    tmp_path: Path, written: str, value: float
) -> None:
    assert read(tmp_path, f"a\n{written}\n") == [{"a": value}]


def test_one_value_behind_the_first_megabyte_decides_for_the_whole_column(tmp_path: Path) -> None:
    rows = read(tmp_path, "a,b\n" + "1,\n" * 400_000 + "x,1.5\n")
    assert rows[0] == {"a": "1", "b": None}
    assert rows[-1] == {"a": "x", "b": 1.5}


def test_the_files_of_a_folder_are_one_table(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("zip\n10001\n")
    (tmp_path / "2.csv").write_text("zip\n00501\n")
    selection = Scan()
    source = open_source(str(tmp_path), selection)
    rows = [row["zip"] for batch in source.batches for row in batch.to_pylist()]
    assert rows == ["10001", "00501"]
    assert selection.notes == ["read as text: zip"]


@pytest.mark.parametrize("word", ["NA", "N/A", "NaN", "NULL", "null"])
def test_a_word_for_no_value_is_null_among_numbers_and_text_elsewhere(
    tmp_path: Path, word: str
) -> None:
    rows = read(tmp_path, f"number,text,alone\n1,NO,{word}\n{word},{word},{word}\n")
    assert rows == [
        {"number": 1, "text": "NO", "alone": word},
        {"number": None, "text": word, "alone": word},
    ]


def test_null_texts_are_what_the_user_says(tmp_path: Path) -> None:
    rows = read(tmp_path, "a,b,c\n-,NA,NA\n1,x,1\n", null_texts=["-"])
    assert rows == [{"a": None, "b": "NA", "c": "NA"}, {"a": 1, "b": "x", "c": "1"}]


def test_an_empty_field_is_null_and_quotes_around_nothing_are_the_empty_text(
    tmp_path: Path,
) -> None:
    assert read(tmp_path, 'a,b\nx,\n"",1\n,2\n') == [
        {"a": "x", "b": None},
        {"a": "", "b": 1},
        {"a": None, "b": 2},
    ]


def test_true_and_false_alone_are_booleans(tmp_path: Path) -> None:
    rows = read(tmp_path, "a,b\ntrue,True\nfalse,true\n,\n")
    assert rows == [
        {"a": True, "b": "True"},
        {"a": False, "b": "true"},
        {"a": None, "b": None},
    ]


def test_dates_and_times_stay_as_written(tmp_path: Path) -> None:
    assert read(tmp_path, "a\n2024-01-01 10:00:00\n") == [{"a": "2024-01-01 10:00:00"}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\ncafé,1\n".encode("latin-1"), ["line 2", "0xe9", "encoding='latin-1'"]),
        ("a,b\ncafé,1\n".encode("utf-16"), ["line 1", "UTF-16", "encoding='utf-16'"]),
        ("id;name\n1;x\n", ["'id;name'", "separator=';'"]),
        ("id|name\n1|x\n", ["separator='|'"]),
        ("id\tname\n1\tx\n", [r"separator='\t'"]),
        ("<!DOCTYPE html>\n<html>", ["HTML"]),
        ("a,b\n1,2\n3,4,5\n", ["line 3", "3 fields", "2 columns"]),
        ('a,b\n"x\ny",2\n3,4,5\n', ["line 4"]),
        ('a,b\n1,2\n3,"4\n5,6\n', ["line 3", "not closed"]),
        ("a,a\n1,2\n", ["two columns 'a'"]),
        ("a,b\n1,2\n".encode("utf-32"), ["line 1", "encoding='utf-32'"]),
        (gzip.compress(b"a,b\n1,2\n"), ["gzip", ".gz"]),
        (b"PK\x03\x04\x14\0", ["ZIP"]),
        ('<?xml version="1.0"?>\n<a/>\n', ["XML"]),
        ('{"a": 1}\n{"a": 2}\n', ["JSON", ".jsonl"]),
        ("sep=;\na;b\n1;2\n", ["Excel", "skip_lines=1"]),
    ],
)
def test_what_would_be_read_wrong_is_refused_with_its_line_and_the_option(
    tmp_path: Path, text: str | bytes, words: list[str]
) -> None:
    said = refusal(tmp_path, text)
    for word in words:
        assert word in said
    assert "Nothing was sent" in said


def test_a_file_without_a_header_is_empty(tmp_path: Path) -> None:
    with pytest.raises(EmptyTableError, match="not even a header"):
        read(tmp_path, "")
    read(tmp_path, "a,b\n1,2")
    (tmp_path / "t.csv").write_text("a,b")
    with server() as client, pytest.raises(EmptyTableError, match="no rows"):
        client.enqueue_batch(tmp_path / "t.csv", "people")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_what_is_compressed_is_not_read_as_text_in_any_encoding(
    tmp_path: Path, encoding: str
) -> None:
    assert "gzip" in refusal(tmp_path, gzip.compress(b"a,b\n1,2\n"), encoding=encoding)


@pytest.mark.parametrize(
    ("text", "options", "rows"),
    [
        ("a\tb\n1\t2\n", {"separator": "\t"}, [{"a": 1, "b": 2}]),
        ("a;b\n1,5;x\n", {"separator": ";", "decimal_comma": True}, [{"a": 1.5, "b": "x"}]),
        ("made by X\n\na,b\n1,2\n", {"skip_lines": 1}, [{"a": 1, "b": 2}]),
        ("made by X\ra,b\r1,2\r", {"skip_lines": 1}, [{"a": 1, "b": 2}]),
        (
            '{"x":1}\t2',
            {"separator": "\t", "header": False, "column_names": ["a", "b"]},
            [{"a": '{"x":1}', "b": 2}],
        ),
        ("a\n007\n+5\nNA\n", {"types": {"a": "number"}}, [{"a": 7}, {"a": 5}, {"a": None}]),
        ("a\n1E5\n.5\n", {"types": {"a": "number"}}, [{"a": 1e5}, {"a": 0.5}]),
        ("1,2\n", {"header": False, "column_names": ["x", "y"]}, [{"x": 1, "y": 2}]),
        ("a,b\n1,2\n", {"column_names": ["x", "y"]}, [{"x": 1, "y": 2}]),
        ("a,b\n1,2\n", {"types": {"a": "text"}}, [{"a": "1", "b": 2}]),
        ("a,b\n1,2\n", {"types": "text"}, [{"a": "1", "b": "2"}]),
        ("a,b\n'x,y',2\n", {"quote": "'"}, [{"a": "x,y", "b": 2}]),
        ('a,b\n",2\n', {"quote": None}, [{"a": '"', "b": 2}]),
        ("a\ncafé\n".encode("cp1252"), {"encoding": "cp1252"}, [{"a": "café"}]),
        ("a,b\r1,2\r", {}, [{"a": 1, "b": 2}]),
        ("\ufeffa,b\n1,2\n", {}, [{"a": 1, "b": 2}]),
        ('a,b\n5" pipe,2\n', {}, [{"a": '5" pipe', "b": 2}]),
    ],
)
def test_the_options_say_what_the_file_does_not(
    tmp_path: Path, text: str | bytes, options: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    assert read(tmp_path, text, **options) == rows


def test_a_tsv_file_is_known_by_its_name(tmp_path: Path) -> None:
    assert read(tmp_path, "a\tb\n1\t2\n", "t.tsv") == [{"a": 1, "b": 2}]


def test_a_type_that_a_value_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    said = refusal(tmp_path, "a\n1\nx\n", types={"a": "number"})
    assert "column 'a'" in said
    assert "'x'" in said
    assert "'0x1F'" in refusal(tmp_path, "a\n0x1F\n", types={"a": "number"})
    german: dict[str, Any] = {"separator": ";", "decimal_comma": True, "types": {"a": "number"}}
    assert "decimal comma" in refusal(tmp_path, "a;b\n1.234;x\n0,5;x\n", **german)


@pytest.mark.parametrize("digits", ["12345678901234567890", "19999999999999999.99", "1E400"])
def test_a_number_that_the_user_asks_for_is_exact_or_lossy(tmp_path: Path, digits: str) -> None:
    (tmp_path / "t.csv").write_text(f"a\n{digits}\n1\n")
    asked: dict[str, Any] = {"text_options": {"types": {"a": "number"}}}
    with server() as client:
        with pytest.raises(LossyValueError, match="column 'a', row 0"):
            client.enqueue_batch(tmp_path / "t.csv", "people", **asked)
        client.enqueue_batch(tmp_path / "t.csv", "people", on_lossy="string", **asked)
        sent = [job.payload["a"] for job in client.dequeue("people", "w", batch_size=2)]
    assert [Decimal(value) for value in sent] == [Decimal(digits), Decimal(1)]


def test_the_names_of_very_many_columns_are_what_is_written(tmp_path: Path) -> None:
    names = [f"{number:06d}" for number in range(10_002)]
    [row] = read(tmp_path, f"{','.join(names)}\n{','.join(names)}\n")
    assert list(row.items()) == [(name, name) for name in names]


def test_a_file_that_changes_between_its_two_readings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2.5\n")
    source = open_source(str(path))
    with path.open("a") as file:
        file.write("007,12345678901234567890\n")
    with pytest.raises(SourceError, match="changed while it was read"):
        list(source.batches)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"separator": ";;"}, "separator must be one ASCII character"),
        ({"separator": '"'}, "must differ"),
        ({"encoding": "utf-9"}, "'utf-9'"),
        ({"encoding": "base64"}, "'base64'"),
        ({"decimal_comma": True}, "another separator"),
        ({"types": {"a": "zip"}}, "'zip'"),
        ({"types": {"nothing": "text"}}, "no column 'nothing'"),
        ({"skip_lines": -1}, "skip_lines"),
        ({"header": False}, "column_names"),
        ({"column_names": ["x"]}, "column_names must name the 2 columns"),
    ],
)
def test_options_that_cannot_be_are_refused(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    assert words in refusal(tmp_path, "a,b\n1,2\n", **options)


CELLS = st.lists(st.sampled_from(["a", "1", ",", '"', "\r\n", "\n", " ", "é"]), max_size=5).map(
    "".join
)


@given(
    st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 9),
)
def test_every_byte_of_a_cell_comes_out_wherever_the_file_is_cut(
    rows: list[tuple[str, str]], ending: str, size: int
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator=ending, quoting=csv.QUOTE_ALL).writerows(rows)
    data = out.getvalue().encode()
    blocks = (data[at : at + size] for at in range(0, len(data), size))
    cut = [piece for _, piece in pieces(blocks, RecordCutter(",", '"'), "t.csv")]
    assert b"".join(cut) == data
    read_back = [
        tuple(row) for piece in cut for row in csv.reader(io.StringIO(piece.decode(), newline=""))
    ]
    assert read_back == rows


def test_line_breaks_in_quotes_are_kept_across_every_place_a_block_may_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = "x" * 20 + "\r\ny\n" + "z" * 20
    data = "a,b\r\n" + "".join(f'"{cell}",{n}\r\n' for n in range(20))
    for size in range(40, 110):
        monkeypatch.setattr(csv_records, "READ_BYTES", size)
        assert read(tmp_path, data) == [{"a": cell, "b": n} for n in range(20)]


def test_every_door_takes_the_options_as_a_value_or_as_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a;b\n1;00501\n")
    with server() as client:
        for options in (TextOptions(separator=";"), {"separator": ";"}):
            plan = client.plan_batch(path, "q", text_options=options)
            assert plan.samples == ({"a": 1, "b": "00501"},)
            assert plan.notes == ("read as text: b",)
        with pytest.raises(InvalidArgumentError, match=r"text_options must be .*separator"):
            client.enqueue_batch(path, "q", text_options={"delimiter": ";"})


def test_what_was_guessed_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Airflow's set-up of logging, in the same process, disables loggers and their propagation.
    logger = logging.getLogger("spooled_pipelines.batch")
    monkeypatch.setattr(logger, "disabled", False)
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    monkeypatch.setattr(logger, "propagate", False)
    path = tmp_path / "t.csv"
    path.write_text("zip,n\n00501,NA\n00502,1\n")
    with server() as client, caplog.at_level(logging.INFO, logger.name):
        client.enqueue_batch(path, "q")
    records = [record for record in caplog.records if record.name == logger.name]
    assert [record.getMessage().rpartition("': ")[2] for record in records] == [
        "read as text: zip",
        "NA and the like are read as null in: n",
    ]
