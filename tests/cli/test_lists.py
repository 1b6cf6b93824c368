"""What there is is listed, fits a terminal of 80 columns, and is found by what people remember."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from spooled_pipelines import SpooledClient
from spooled_pipelines.cli.text_table import table_lines
from tests.support.cli import command, on_terminal
from tests.support.server_process import ServerProcess

IDS = [f"fcda19bd-c7f3-8789-a3c9-{number:012x}" for number in (0x1A2B3C, 0x1A2B3D, 0xFFFF1A2B3D)]
NAME = "2026-11-23 ü"


@pytest.fixture
def failed(
    server: ServerProcess,
    client: SpooledClient,
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> list[str]:
    """The ids of a batch, of a job of it that is dead, and of one that waits for its retry."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPOOLED_GRPC_ADDRESS", server.address)
    monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)
    batch = client.enqueue_batch([{"id": n} for n in range(3)], queue, key="id", name=NAME)
    dead, retrying, done = client.dequeue(queue, "w-1", batch_size=3)
    client.fail(dead, "no customer 17", retry=False)
    client.fail(retrying, "HTTP 503")
    client.complete(done)
    return [batch.id, dead.id, retrying.id]


def listed(*arguments: str) -> list[dict[str, object]]:
    done = command(*arguments, "--json")
    assert done.code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_jobs_are_listed_by_queue_status_error_and_time(failed: list[str], queue: str) -> None:
    _, dead, retrying = failed

    def found(*arguments: str) -> list[object]:
        return [job["id"] for job in listed("jobs", "list", "--queue", queue, *arguments)]

    assert len(found()) == 3
    assert found("--limit", "1") == [found()[0]]
    assert found("--status", "deadletter") == [dead]
    assert found("--status", "retrying") == [retrying]
    assert found("--status", "retrying", "--status", "deadletter") == [retrying, dead]
    assert len(found("--status", "retrying", "--status", "pending")) == 1
    assert found("--error", "customer") == [dead]
    assert found("--error", "w-1", "--since", "5m") == found()
    assert found("--until", "5m") == []
    text = command("jobs", "list", "--queue", queue).stdout
    assert "no customer 17" in text
    assert "retrying" in text
    assert "attempt 1: " in command("dead-letters", "history", dead[-6:]).stdout
    limited = command("batches", "list", "--queue", queue, "--limit", "1").stdout
    assert limited.endswith("the newest 1; --limit shows more\n")


def test_a_lost_batch_is_found_by_name_and_time_and_taken_by_its_name(
    failed: list[str], queue: str
) -> None:
    batch = failed[0]
    (found,) = listed("batches", "list", "--queue", queue, "--name", "11-23", "--since", "1h")
    assert found["batch_id"] == batch
    assert listed("batches", "list", "--queue", queue, "--until", "1h") == []
    for said in (batch, batch[:9], batch[:9] + "…"):
        assert listed("cancel", said) == [{"cancelled": 1, "running": 0, "done": 2}]
    assert command("enqueue", "-", f"{queue}-2", "--name", NAME, stdin=b"a\n1\n").code == 0
    done = command("cancel", NAME)
    assert done.code == 2
    assert f"batches are called {NAME!r}: b_" in done.stderr
    done = command("results", queue)
    assert done.code == 2
    assert f"'{queue}' is a queue; `spooled-pipelines batches list --queue {queue}`" in done.stderr


def test_a_job_is_shown_cancelled_retried_and_discarded_by_its_id(
    failed: list[str], client: SpooledClient
) -> None:
    _, dead, retrying = failed
    text = command("jobs", "show", dead[-6:]).stdout
    assert f"job       {dead}\n" in text
    assert "error:\n  no customer 17" in text
    text = command("jobs", "show", retrying).stdout
    assert "status    retrying" in text
    assert "next try" in text
    assert command("jobs", "cancel", retrying).stdout == "cancelled  1\n"
    assert command("jobs", "retry", dead).code == 0
    assert client.get_job(dead).status == "pending"
    done = command("jobs", "discard", dead, retrying)
    assert done.code == 5
    assert f"job {dead} stays as it is" in done.stderr
    assert "(and 1 others)" in done.stderr


def test_lists_fit_a_terminal_of_80_columns(failed: list[str]) -> None:
    program = (
        "import sys\nfrom spooled_pipelines.cli.app import run\n"
        "for name in ('queues', 'batches', 'jobs', 'workers'):\n    run([name, 'list'])\n"
    )
    text = on_terminal([sys.executable, "-c", program], env={"COLUMNS": "80"})
    assert max(map(len, text.splitlines())) <= 80


def test_lists_of_nothing_say_so_and_what_to_do(failed: list[str]) -> None:
    for name, said in (
        ("queues", "no queues in nobody; `spooled-pipelines organizations list` names them all"),
        ("batches", "no batches yet; `spooled-pipelines enqueue FILE QUEUE` makes one of a file"),
        ("jobs", "no jobs yet; `spooled-pipelines enqueue FILE QUEUE` makes some of a file"),
        ("workers", "no workers; `spooled-pipelines work QUEUE MODULE:FUNCTION` starts one"),
    ):
        done = command(name, "list", "--organization", "nobody")
        assert (done.code, done.stdout, done.stderr) == (0, "", f"{said}\n")


def test_an_error_on_a_terminal_is_not_cut_within_a_word(failed: list[str]) -> None:
    program = (
        "from spooled_pipelines.cli.app import run\n"
        "raise SystemExit(run(['stats', 'no-such-queue-' + 'x' * 30]) - 2)"
    )
    lines = on_terminal([sys.executable, "-c", program], env={"COLUMNS": "60"}).splitlines()
    assert max(map(len, lines)) <= 60
    assert " ".join(lines).endswith("; it begins with its first job")


def test_ids_are_shortened_so_that_they_differ_and_numbers_are_never_cut() -> None:
    rows = [(job_id, 1234567, "x" * 90, "completed") for job_id in IDS]
    names = ("job", "total", "city", "status")
    assert len(table_lines(names, rows, None)[0]) > 100
    lines = table_lines(names, rows, 60)
    assert max(map(len, lines)) <= 60
    assert len({line.split()[0] for line in lines[2:]}) == 3
    assert all("1,234,567" in line and "…" in line for line in lines[2:])


def test_rows_that_are_too_wide_are_turned() -> None:
    names = [f"column_{number}" for number in range(12)]
    lines = table_lines(names, [[IDS[0], *range(1_000_000, 1_000_011)], [None] * 12], 60)
    assert max(map(len, lines)) <= 60
    assert lines[0].startswith("-[ 1 ]--")
    assert f"column_0  | {IDS[0]}" in lines
    assert "column_11 | 1,000,010" in lines


def test_a_misspelt_queue_is_not_a_queue_without_jobs(failed: list[str], queue: str) -> None:
    for command_line in (("stats",), ("dead-letters", "list"), ("dead-letters", "errors")):
        done = command(*command_line, f"{queue}x")
        assert (done.code, done.stdout) == (2, "")
        assert f"there is no queue '{queue}x': did you mean {queue}?" in done.stderr


def test_stats_and_errors_say_why_jobs_wait(failed: list[str], queue: str) -> None:
    text = command("stats", queue).stdout
    assert "retrying        1" in text
    assert "retrying: 1 × HTTP 503, next try in" in text
    for named in ((queue,), ("--batch", failed[0])):
        dead, waiting = listed("dead-letters", "errors", *named)
        assert (dead["error"], dead["state"]) == ("no customer 17", "dead")
        assert (waiting["error"], waiting["state"]) == ("HTTP 503", "retrying")
        assert waiting["next"]


def test_results_are_chosen_and_shown_with_the_payload(failed: list[str], queue: str) -> None:
    batch = failed[0]
    text = command("results", batch, "--format", "table").stdout
    header, _, *rows = text.splitlines()
    assert header.split()[:2] == ["id", "job_id"]
    assert [row.split()[0] for row in rows] == ["0", "1", "2"]
    dead = listed("results", batch, "--status", "deadletter", "--columns", "id,error", "--payload")
    assert dead == [{"id": 0, "error": "no customer 17"}]
    assert len(listed("results", batch, "--limit", "2")) == 2
    assert "1 of 3 rows; --limit shows more" in command(
        "results", batch, "--format", "table", "--limit", "1"
    ).stdout  # fmt: skip
    done = command("results", batch, "--columns", "nope")
    assert (done.code, done.stdout) == (2, "")
    assert "there is no column 'nope'; there are row, job_id" in done.stderr
