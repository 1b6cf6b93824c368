"""Whatever is wrong: one line that says what and what to do, and the right exit code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spooled_pipelines import SpooledClient
from tests.support.cli import command
from tests.support.server_process import ServerProcess

Spooled = Callable[..., "subprocess.CompletedProcess[str]"]
NOWHERE = {"SPOOLED_GRPC_ADDRESS": "127.0.0.1:1", "SPOOLED_API_KEY": "sp_test_of_any_server"}


def assert_one_line(
    done: subprocess.CompletedProcess[str], code: int, *said: str, stdout: str = ""
) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == stdout
    assert done.stderr.startswith("spooled-pipelines: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    for part in said:
        assert part in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "nope"),
        (["stats"], "'QUEUE'"),
        (["stats", "q", "--nope"], "--nope"),
        (["stats", "-hidden/queue"], "-h"),
        (["stats", "bad/queue"], "'bad/queue'"),
        (["enqueue", "absent.parquet", "q"], "absent.parquet: no such file or folder"),
        (["enqueue", "orders.csv", "bad queue"], "'bad queue'"),
        (["enqueue", "orders.csv", "q", "--tag", "team"], "NAME=VALUE"),
        (["enqueue", "orders.csv", "q", "--on-lossy", "maybe"], "maybe"),
        (["enqueue", "orders.csv", "q", "--scheduled-at", "2030-01-01T00:00"], "time zone"),
        (["enqueue", "orders.csv", "q", "--expires-at", "2030-01-01T00:00"], "--expires-at must"),
        (["enqueue", "orders.csv", "q", "--priority", "101"], "101"),
        (["enqueue", "orders.csv", "q", "--limit-by", "customer"], "--limit-by must be COLUMN=N"),
        (
            ["enqueue", "orders.csv", "q", "--rate-limit", "0"],
            "rate_limit must be a number of calls a second above 0, got 0.0",
        ),
        (["enqueue", "orders.csv", "q", "--max-outstanding", "0"], "max-outstanding"),
        (["watch", "b_1", "--on-breach", "maybe"], "maybe"),
        (["watch", "b_1", "--max-failed", "-1"], "-1"),
        (["watch", "b_1", "--max-failed", "many"], "'many'"),
        (["watch", "b_1", "--max-failed", "1.5"], "'1.5'"),
        (["results", "b_1", "-o", "r.xlsx"], "the name of the file 'r.xlsx' has no known format"),
        (
            ["results", "b_1", "-o", "absent/r.csv"],
            "absent/r.csv' cannot be written: there is no such folder",
        ),
        (["work", "q", "handlers"], "MODULE:FUNCTION"),
        (["work", "q", "absent:f"], "absent"),
        (["work", "q", "handlers:absent"], "handlers has no absent"),
        (["work", "q", "handlers:not_a_function"], "int"),
        (["work", "q", "broken:f"], "ZeroDivisionError"),
        (
            ["work", "q", "handlers:invoice", "--concurrency", "0"],
            "concurrency must be 1 to 10000, got 0",
        ),
        (
            ["work", "q", "handlers:invoice", "--lease-seconds", "1"],
            "lease_seconds must be 5 to 3600, got 1",
        ),
        (["work", "bad/queue", "handlers:invoice"], "'bad/queue'"),
        (["serve", "--rate-limit", "0"], "--rate-limit must be greater than 0"),
        (["serve", "--store", "mysql://db"], "mysql://db"),
        (["serve", "--store", "sqlite:////dev/null/jobs.db"], "/dev/null"),
        (["serve", "--tls-cert", "absent.pem"], "tls_key"),
        (["serve", "--listen", "nonsense"], "nonsense"),
        (["stats", "q", "--address", "host:99999"], "host:99999"),
    ],
    ids=" ".join,
)
def test_what_is_wrong_in_the_command_is_said_before_any_server_is_asked(
    spooled: Spooled, folder: Path, arguments: list[str], said: str
) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    assert_one_line(spooled(*arguments, **NOWHERE), 2, said)


@pytest.mark.parametrize(
    ("name", "content", "arguments", "said"),
    [
        ("orders.csv", None, ["--key", "order"], "'order_id'"),
        ("empty.csv", "", [], "empty.csv"),
        ("header.csv", "a,b\n", [], "no rows"),
        ("empty.parquet", "", [], "empty.parquet"),
        ("empty.jsonl", "", [], "no rows"),
        ("noise.parquet", "this is not Parquet", [], "noise.parquet"),
        ("noise.jsonl", '{"a": 1}\n{"a":', [], "noise.jsonl"),
        ("table.xlsx", "x", [], ".xlsx"),
        ("big.jsonl", '{"id": 9007199254740993}\n', [], "id"),
        ("nothing.csv", "id,n\n,1\n,2\n", ["--key", "id", "--on-rejected", "skip"], "2"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_and_nothing_is_sent(
    to_server: None,
    spooled: Spooled,
    client: SpooledClient,
    folder: Path,
    queue: str,
    name: str,
    content: str | None,
    arguments: list[str],
    said: str,
) -> None:
    if content is not None:
        (folder / name).write_text(content)
    assert_one_line(spooled("enqueue", name, queue, *arguments), 2, said)
    assert client.queue_stats(queue).total == 0


EACH_COMMAND = [
    ["stats", "q"],
    ["enqueue", "orders.csv", "q"],
    ["watch", "b_1"],
    ["results", "b_1"],
    ["work", "q", "handlers:invoice"],
]


@pytest.mark.parametrize("arguments", EACH_COMMAND, ids=lambda arguments: arguments[0])
def test_without_a_key_each_command_is_denied_and_says_how_to_give_one(
    spooled: Spooled, arguments: list[str]
) -> None:
    done = spooled(*arguments, SPOOLED_GRPC_ADDRESS="127.0.0.1:1")
    assert_one_line(done, 4, "SPOOLED_API_KEY")


@pytest.mark.parametrize("arguments", EACH_COMMAND, ids=lambda arguments: arguments[0])
def test_a_wrong_key_is_denied_and_not_shown(
    spooled: Spooled, server: ServerProcess, arguments: list[str]
) -> None:
    wrong = {"SPOOLED_GRPC_ADDRESS": server.address, "SPOOLED_API_KEY": "sp_test_wrong"}
    done = spooled(*arguments, **wrong)
    assert_one_line(done, 4, "key", "SPOOLED_API_KEY")
    assert "sp_test_wrong" not in done.stderr


@pytest.mark.parametrize("arguments", EACH_COMMAND[:1] + EACH_COMMAND[-1:], ids=lambda a: a[0])
def test_without_a_server_the_address_and_the_cure_are_named(
    spooled: Spooled, arguments: list[str]
) -> None:
    assert_one_line(spooled(*arguments, **NOWHERE), 3, "127.0.0.1:1", "spooled-pipelines serve")


@pytest.mark.parametrize("command", ["watch", "results"])
def test_a_batch_that_is_not_there_is_named(
    to_server: None, spooled: Spooled, command: str
) -> None:
    assert_one_line(spooled(command, "b_absent"), 2, "b_absent")


def test_serving_without_a_key_is_refused_with_one_to_copy(spooled: Spooled) -> None:
    first, second = spooled("serve"), spooled("serve")
    assert_one_line(first, 2, "export SPOOLED_API_KEY=sp_live_")
    assert first.stderr != second.stderr


def test_a_store_that_another_server_has_is_refused(
    spooled: Spooled, server: ServerProcess
) -> None:
    store = ("--store", f"sqlite:///{server.store}", "--listen", "127.0.0.1:0")
    assert_one_line(
        spooled("serve", *store, "--api-key", "sp_test_0123456789"), 2, "another server"
    )
    embedded = spooled("stats", "q", "--address", f"embedded:{server.store}")
    assert_one_line(embedded, 3, "another server")


def test_without_the_extra_the_command_says_what_to_install(folder: Path) -> None:
    program = (
        "import sys; sys.modules['typer'] = None\n"
        "from spooled_pipelines.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert_one_line(done, 2, "pip install 'spooled-pipelines[cli]'")


def test_a_reader_that_has_enough_is_no_error(
    to_server: None, spooled: Spooled, folder: Path, queue: str, environment: dict[str, str]
) -> None:
    (folder / "many.csv").write_text("n\n" + "\n".join(map(str, range(20_000))))
    batch = spooled("enqueue", "many.csv", queue).stdout.split()[1]
    command = f"{sys.executable} -m spooled_pipelines.cli.main results {batch} | head -n 1"
    done = subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a;b\n1;2\n", "Say the file's own, --separator ';'."),
        (b"a\ncaf\xe9\n", "such as --encoding 'latin-1' or 'cp1252'"),
    ],
)
def test_advice_is_in_options_of_the_shell(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    done = command("plan", str(tmp_path / "t.csv"), "q", "--address", f"embedded:{tmp_path}/s.db")
    assert done.code == 2
    assert said in done.stderr
