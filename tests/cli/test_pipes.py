"""Tables come in by standard input and go out by standard output, of each kind."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from spooled_pipelines import SpooledClient
from tests.support.cli import Done, command
from tests.support.server_process import ServerProcess

READ_AS = {"l.parquet": "parquet", "l.arrow": "arrow", "l.csv": "csv", "l.jsonl": "json"}
TABLE = pa.table({"order_id": [1, 2, 3], "city": ["Rome", "Oslo", "Bern"]})


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(TABLE, file)
    return file.getvalue()


def csv() -> bytes:
    file = io.BytesIO()
    pyarrow.csv.write_csv(TABLE, file)
    return file.getvalue()


def jsonl() -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in TABLE.to_pylist())


def arrow() -> bytes:
    file = io.BytesIO()
    with pyarrow.ipc.new_file(file, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return file.getvalue()


@pytest.fixture(autouse=True)
def _in_the_folder(folder: Path, server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SPOOLED_GRPC_ADDRESS", server.address)
    monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)


def piped(data: bytes, *arguments: str) -> Done:
    """The command with these bytes on its standard input."""
    return command(*arguments, stdin=data)


def test_each_kind_of_table_comes_in_and_all_of_them_are_the_same_jobs(
    client: SpooledClient, queue: str, folder: Path
) -> None:
    first, *others = [parquet(), csv(), jsonl(), arrow(), gzip.compress(csv())]
    arguments = ("enqueue", "-", queue, "--key", "order_id", "--json")
    made = piped(first, *arguments)
    assert json.loads(made.stdout)["created"] == 3, made.stderr
    for data in others:
        again = json.loads(piped(data, *arguments).stdout)
        assert (again["created"], again["duplicates"]) == (0, 3)
    assert client.queue_stats(queue).total == 3
    # Nothing is left of what was kept meanwhile.
    assert sorted(path.name for path in folder.iterdir()) == ["handlers.py", "orders.csv"]


@pytest.mark.parametrize(
    ("data", "arguments", "said"),
    [
        (b"", [], "standard input is empty"),
        (b'{"a": 1}\n{"a":', [], "line 2 of standard input"),
        (b"PAR1 not really", [], "standard input"),
        (b"a,b\n1,2\n", ["--format", "jsonl"], "standard input"),
        (b"a,b\n1,2\n", ["--key", "c"], "'a'"),
    ],
)
def test_what_is_wrong_with_it_is_said_of_standard_input(
    queue: str, data: bytes, arguments: list[str], said: str
) -> None:
    done = piped(data, "enqueue", "-", queue, *arguments)
    assert done.code == 2
    assert said in done.stderr
    assert "/spooled-" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_has_no_format_but_its_name_s(queue: str) -> None:
    done = piped(b"", "enqueue", "orders.csv", queue, "--format", "csv")
    assert done.code == 2
    assert "--format" in done.stderr


@pytest.fixture
def batch(client: SpooledClient, queue: str) -> str:
    made = client.enqueue_batch(TABLE, queue, key="order_id")
    for job in client.dequeue(queue, "w", batch_size=3):
        client.complete(job, result={"city": job.payload["city"].upper(), "parts": [1, 2]})
    return made.id


def test_results_go_out_as_each_kind(batch: str) -> None:
    def read(kind: str) -> bytes:
        done = piped(b"", "results", batch, "--format", kind)
        assert (done.code, done.stderr) == (0, "")
        return done.out

    expected = ["BERN", "OSLO", "ROME"]
    assert sorted(pq.read_table(io.BytesIO(read("parquet"))).column("city").to_pylist()) == expected
    arrow_file = pyarrow.ipc.open_file(read("arrow")).read_all()
    assert sorted(arrow_file.column("city").to_pylist()) == expected
    lines = [json.loads(line) for line in read("jsonl").splitlines()]
    assert sorted(line["city"] for line in lines) == expected
    assert lines[0]["parts"] == [1, 2]
    assert read("csv").startswith(b'"row","job_id","status","error","city","parts"')
    assert piped(b"", "results", batch).out == read("jsonl")


@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv", "jsonl"])
def test_a_file_has_what_standard_output_would_have_had(
    batch: str, folder: Path, kind: str
) -> None:
    done = piped(b"", "results", batch, "-o", f"r.{kind}")
    assert (done.code, done.out, done.stderr) == (0, b"", f"3 rows written to r.{kind}\n")
    printed = piped(b"", "results", batch, "--format", kind).out
    if kind == "parquet":
        assert pq.read_table(folder / "r.parquet").equals(pq.read_table(io.BytesIO(printed)))
    else:
        assert (folder / f"r.{kind}").read_bytes() == printed
    if kind == "csv":
        # Which has no lists.
        assert printed.count(b'"[1, 2]"') == 3
    assert [path.name for path in folder.glob("*r.*")] == [f"r.{kind}"]


def test_results_go_to_a_uri(batch: str, folder: Path) -> None:
    done = piped(b"", "results", batch, "-o", f"{folder.as_uri()}/r.parquet")
    assert done.code == 0, done.stderr
    assert pq.read_table(folder / "r.parquet").num_rows == 3


def test_results_of_one_command_are_the_table_of_another(batch: str, queue: str) -> None:
    out = piped(b"", "results", batch, "--format", "parquet").out
    done = piped(out, "enqueue", "-", f"{queue}-next", "--key", "job_id", "--json")
    assert json.loads(done.stdout)["created"] == 3, done.stderr


def test_no_terminal_is_given_what_it_cannot_show(
    environment: dict[str, str], to_server: None, batch: str
) -> None:
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "spooled_pipelines.cli.main"),
                *("results", batch, "--format", "parquet"),
            ],
            env=environment,
            stdout=theirs,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 2
    assert b"-o FILE.parquet" in done.stderr


@pytest.mark.parametrize("name", ["l.parquet", "l.arrow", "l.csv", "l.jsonl"])
def test_the_ledger_says_what_became_of_each_row(queue: str, folder: Path, name: str) -> None:
    done = piped(csv(), "enqueue", "-", queue, "--key", "order_id", "--ledger", name, "--json")
    assert done.code == 0, done.stderr
    ledger = pa.dataset.dataset(folder / name, format=READ_AS[name]).to_table()
    assert ledger.column_names == ["row", "key", "job_id", "outcome", "reason"]
    assert ledger.column("outcome").to_pylist() == ["created"] * 3
    # Where the batch can read it back, the dict that the batch is made of again says where it is.
    kept = json.loads(done.stdout).get("ledger")
    assert kept == (name if name in ("l.parquet", "l.arrow") else None)


def test_the_ledger_lists_rows_that_were_refused(queue: str, folder: Path) -> None:
    rows = b'{"id": "a"}\n{"id": null}\n'
    done = piped(rows, "enqueue", "-", queue, "--key", "id", "--ledger", "l.parquet")
    assert done.code == 2
    assert "'l.parquet'" in done.stderr
    (refused,) = pq.read_table(folder / "l.parquet").to_pylist()
    assert (refused["row"], refused["outcome"]) == (1, "rejected")


def test_a_ledger_that_cannot_be_is_refused_before_anything_is_sent(
    client: SpooledClient, queue: str
) -> None:
    for wrong in ("l.xlsx", "absent/l.csv", "l.csv.gz"):
        refused = piped(csv(), "enqueue", "-", queue, "--ledger", wrong)
        assert refused.code == 2
        assert wrong in refused.stderr
    assert client.queue_stats(queue).total == 0


def test_a_plan_shows_payloads_and_takes_what_enqueue_takes(
    client: SpooledClient, queue: str
) -> None:
    done = piped(jsonl(), "plan", "-", queue, "--key", "order_id", "--priority", "5")
    assert done.code == 0, done.stderr
    assert "to create   3" in done.stdout
    assert 'payload: {"city": "Rome", "order_id": 1}' in done.stdout
    assert client.queue_stats(queue).total == 0
