"""Each command does what its help says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import pytest

from spooled_pipelines import SpooledClient, __version__, connect
from tests.support.cli import on_terminal
from tests.support.server_process import ServerProcess, complaints_in
from tests.support.waiting import eventually

Spooled = Callable[..., "subprocess.CompletedProcess[str]"]

COMMANDS = (
    "serve",
    "enqueue",
    "plan",
    "doctor",
    "stats",
    "watch",
    "results",
    "cancel",
    "retry",
    "work",
)


@pytest.fixture
def enqueued(to_server: None, client: SpooledClient, folder: Path, queue: str) -> str:
    """The id of a batch of three orders."""
    return client.enqueue_batch(str(folder / "orders.csv"), queue, key="order_id").id


@pytest.fixture
def worked(enqueued: str, client: SpooledClient, queue: str) -> str:
    """The same batch, done: two completed, one dead."""
    for job in client.dequeue(queue, "w", batch_size=3):
        if job.payload["city"] == "Oslo":
            client.fail(job, "not to Oslo", retry=False)
        else:
            client.complete(job, result={"city": job.payload["city"].upper(), "parts": [1, 2]})
    return enqueued


def test_help_names_every_command_and_the_exit_codes(spooled: Spooled) -> None:
    done = spooled("--help")
    assert done.returncode == 0
    assert all(f"  {command} " in done.stdout for command in COMMANDS)
    assert "4 denied" in done.stdout
    assert spooled().stdout == done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(spooled: Spooled, command: str) -> None:
    done = spooled(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Options:" in done.stdout


def test_the_version_is_the_package_s(spooled: Spooled) -> None:
    assert spooled("--version").stdout.strip() == __version__


def test_a_plan_says_what_would_be_done_and_does_nothing(
    to_server: None, spooled: Spooled, client: SpooledClient, queue: str
) -> None:
    planned = spooled("enqueue", "order*.csv", queue, "--key", "order_id", "--plan")
    assert planned.returncode == 0, planned.stderr
    assert "to create   3" in planned.stdout
    assert "nothing was written" in planned.stdout
    assert client.queue_stats(queue).total == 0
    spooled("enqueue", "orders.csv", queue, "--key", "order_id", "--column", "order_id")
    again = spooled("enqueue", "orders.csv", queue, "--key", "order_id", "--plan", "--json")
    assert json.loads(again.stdout)["duplicates"] == 3


def test_enqueue_makes_jobs_once_and_says_how_to_go_on(
    to_server: None, spooled: Spooled, client: SpooledClient, queue: str
) -> None:
    arguments = ("enqueue", "orders.csv", queue, "--key", "order_id", "--name", "monday")
    first = spooled(*arguments)
    assert first.returncode == 0, first.stderr
    assert "created     3" in first.stdout
    assert "next: spooled-pipelines watch b_" in first.stdout
    assert "duplicates  3" in spooled(*arguments).stdout
    assert client.queue_stats(queue).total == 3


def test_the_shell_says_what_has_changed_and_replaces_it_on_demand(
    to_server: None, spooled: Spooled, client: SpooledClient, queue: str, folder: Path
) -> None:
    arguments = ("enqueue", "orders.csv", queue, "--key", "order_id", "--name", "monday")
    assert "changed" not in spooled(*arguments).stdout
    (folder / "orders.csv").write_text("order_id,amount,city\n1,2.5,Rome\n2,3.5,Bergen\n")
    planned = spooled("plan", *arguments[1:])
    assert "changed     1" in planned.stdout
    assert "changed     1 (their jobs keep the payload they had)" in spooled(*arguments).stdout
    refused = spooled(*arguments, "--on-changed", "raise")
    assert refused.returncode == 2
    assert "1 of 2 rows have changed" in refused.stderr
    assert "Give --on-changed replace" in refused.stderr
    replaced = spooled(*arguments, "--on-changed", "replace")
    assert "changed     1 (1 replaced)" in replaced.stdout
    told = json.loads(spooled(*arguments, "--json").stdout)
    assert (told["changed"], told["replaced"]) == (0, 0)
    cities = {job.payload["city"] for job in client.dequeue(queue, "reader", batch_size=9)}
    assert cities == {"Rome", "Bergen", "Bern"}


def test_enqueue_takes_options_from_columns_and_constants(
    to_server: None, spooled: Spooled, client: SpooledClient, queue: str, folder: Path
) -> None:
    (folder / "more.jsonl").write_text('{"id": "a", "urgency": 9}\n{"id": "b", "urgency": -3}\n')
    done = spooled(
        *("enqueue", "more.jsonl", queue, "--priority", "urgency", "--max-retries", "1"),
        *("--job-timeout", "60", "--tag", "team=data", "--json"),
        *("--retry-backoff", "7s", "--ttl", "2h"),
    )
    assert done.returncode == 0, done.stderr
    jobs = client.dequeue(queue, "test", batch_size=2)
    assert client.fail(jobs[0], "no").next_retry_delay == 7
    assert [(job.payload["id"], job.priority) for job in jobs] == [("a", 9), ("b", -3)]
    assert {(job.max_retries, job.timeout_seconds) for job in jobs} == {(1, 60)}


def test_enqueue_waits_while_as_many_jobs_as_wanted_are_open(
    to_server: None,
    client: SpooledClient,
    queue: str,
    folder: Path,
    environment: dict[str, str],
) -> None:
    (folder / "many.csv").write_text("id\n" + "".join(f"{number}\n" for number in range(40)))
    program = [sys.executable, "-m", "spooled_pipelines.cli.main"]
    enqueuing = subprocess.Popen(
        [*program, "enqueue", "many.csv", queue, "--max-outstanding", "10", "--json"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    with enqueuing:
        done, most = 0, 0

        def work() -> bool:
            nonlocal done, most
            stats = client.queue_stats(queue)
            most = max(most, stats.pending + stats.processing)
            for job in client.dequeue(queue, "w", batch_size=10):
                client.complete(job)
                done += 1
            return done == 40

        eventually(work, timeout=45)
        said, _ = enqueuing.communicate(timeout=60)
    assert enqueuing.returncode == 0
    assert json.loads(said)["created"] == 40
    assert 0 < most <= 10


def test_enqueue_can_schedule(
    to_server: None, spooled: Spooled, client: SpooledClient, queue: str
) -> None:
    done = spooled("enqueue", "orders.csv", queue, "--scheduled-at", "2999-01-01T00:00:00Z")
    assert done.returncode == 0, done.stderr
    assert client.queue_stats(queue).scheduled == 3


def test_enqueue_can_skip_what_cannot_be_a_job(
    to_server: None, spooled: Spooled, client: SpooledClient, queue: str, folder: Path
) -> None:
    (folder / "holes.jsonl").write_text('{"id": "a"}\n{"id": null}\n')
    refused = spooled("enqueue", "holes.jsonl", queue, "--key", "id")
    assert refused.returncode == 2
    skipped = spooled(
        "enqueue", "holes.jsonl", queue, "--key", "id", "--on-rejected", "skip", "--json"
    )
    assert json.loads(skipped.stdout)["rejected"] == 1
    assert client.queue_stats(queue).total == 1


def test_stats_are_for_people_and_for_programs(enqueued: str, spooled: Spooled, queue: str) -> None:
    assert "pending         3" in spooled("stats", queue).stdout
    figures = json.loads(spooled("stats", queue, "--json").stdout)
    assert (figures["queue_name"], figures["pending"], figures["total"]) == (queue, 3, 3)


def test_watch_tells_the_verdict_by_its_exit_code(worked: str, spooled: Spooled) -> None:
    failed = spooled("watch", worked)
    assert failed.returncode == 1
    assert "3 of 3 done (100%), 1 failed" in failed.stderr
    assert "not to Oslo" in failed.stderr
    assert spooled("watch", worked, "--max-failed", "1").returncode == 0
    assert spooled("watch", worked, "--max-failed", "50%").returncode == 0
    assert spooled("watch", worked, "--max-failed", "0.1").returncode == 1


def test_watch_can_cancel_what_has_not_started_once_too_many_failed(
    enqueued: str, spooled: Spooled, client: SpooledClient, queue: str
) -> None:
    (job,) = client.dequeue(queue, "w")
    client.fail(job, "boom", retry=False)
    done = spooled("watch", enqueued, "--on-breach", "stop")
    assert done.returncode == 1
    assert "boom" in done.stderr
    stats = client.batch(enqueued).stats()
    assert (stats.cancelled, stats.deadletter, stats.settled) == (2, 1, True)


def test_watch_writes_a_line_of_json_for_each_state(worked: str, spooled: Spooled) -> None:
    done = spooled("watch", worked, "--max-failed", "1", "--json")
    states = [json.loads(line) for line in done.stdout.splitlines()]
    assert states[-1]["settled"]
    assert (states[-1]["completed"], states[-1]["deadletter"]) == (2, 1)


def test_a_terminal_sees_one_line_that_changes(
    worked: str, folder: Path, environment: dict[str, str]
) -> None:
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "spooled_pipelines.cli.main", "watch", worked],
            cwd=folder,
            env=environment,
            stderr=theirs,
            timeout=30,
            check=False,
        )
        shown = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 1
    assert "\r\x1b[K" in shown
    assert "3 of 3 done (100%), 1 failed\r\n" in shown


def test_watch_gives_up_in_time_and_names_what_holds_it(enqueued: str, spooled: Spooled) -> None:
    done = spooled("watch", enqueued, "--timeout", "0.3")
    assert done.returncode == 5
    assert "worker" in done.stderr


def test_ctrl_c_ends_watching_with_130(
    enqueued: str, folder: Path, environment: dict[str, str]
) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "spooled_pipelines.cli.main", "watch", enqueued, "--json"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with watching:
        assert watching.stdout is not None
        assert watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        _, complaint = watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert complaint == "spooled-pipelines: interrupted\n"


def test_results_are_json_lines_where_nobody_looks(worked: str, spooled: Spooled) -> None:
    rows = [json.loads(line) for line in spooled("results", worked).stdout.splitlines()]
    assert sorted(row["status"] for row in rows) == ["completed", "completed", "deadletter"]
    assert {row["city"] for row in rows} == {"ROME", "BERN", None}


@pytest.mark.parametrize("processes", ["1", "2"])
def test_work_says_at_its_end_what_it_did_as_json(
    enqueued: str,
    spooled: Spooled,
    queue: str,
    server: ServerProcess,
    folder: Path,
    processes: str,
) -> None:
    # Each of several processes has to find the server of the profile, too.
    config = folder / "config.toml"
    config.write_text(
        f'[profiles.here]\naddress = "{server.address}"\napi_key_env = "SPOOLED_API_KEY"\n'
    )
    done = spooled(
        *("work", queue, "handlers:invoice", "--drain", "--processes", processes),
        *("--profile", "here", "--json"),
        SPOOLED_CONFIG=str(config),
        SPOOLED_GRPC_ADDRESS="127.0.0.1:1",
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["completed"], report["deadletter"], report["lost"]) == (2, 1, 0)


def test_work_finishes_and_leaves_on_sigterm(
    to_server: None,
    spooled: Spooled,
    client: SpooledClient,
    queue: str,
    folder: Path,
    environment: dict[str, str],
) -> None:
    working = subprocess.Popen(
        [sys.executable, "-m", "spooled_pipelines.cli.main", "work", queue, "handlers:invoice"],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    with working:
        assert spooled("enqueue", "orders.csv", queue).returncode == 0
        # All of them are done: what had not begun would go back.
        eventually(lambda: client.queue_stats(queue).deadletter == 1)
        eventually(lambda: client.queue_stats(queue).completed == 2)
        working.send_signal(signal.SIGTERM)
        _, said = working.communicate(timeout=60)
    assert working.returncode == 0
    assert "2 completed, 1 dead" in said
    # What a log may not hold: data of the jobs.
    assert "Rome" not in said


def test_serve_says_where_it_listens_and_ends_well(
    folder: Path, environment: dict[str, str], spooled: Spooled
) -> None:
    key = "sp_test_serve_0123456789abcdef"
    serving = subprocess.Popen(
        [
            *(sys.executable, "-m", "spooled_pipelines.cli.main", "serve"),
            *("--listen", "127.0.0.1:0", "--store", "sqlite:///jobs.db", "--no-batch-extension"),
        ],
        cwd=folder,
        env={**environment, "SPOOLED_API_KEY": key},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with serving:
        assert serving.stdout is not None
        address = serving.stdout.readline().removeprefix("listening on ").strip()
        with connect(address, api_key=key) as client:
            client.enqueue("q", {})
            assert client.queue_stats("q").total == 1
        plain = spooled("enqueue", "orders.csv", "q", "--address", address, SPOOLED_API_KEY=key)
        assert "created     3" in plain.stdout
        # No batches there, so that following the queue is all that can be offered.
        assert "next: spooled-pipelines stats q" in plain.stdout
        taken = spooled("serve", "--listen", address, "--store", "sqlite:///b.db", "--api-key", key)
        assert (taken.returncode, len(complaints_in(taken.stderr))) == (2, 1)
        serving.send_signal(signal.SIGTERM)
        said, complained = serving.communicate(timeout=60)
    assert (serving.returncode, said, complaints_in(complained)) == (0, "", [])


def test_serve_says_to_programs_where_it_is(folder: Path, environment: dict[str, str]) -> None:
    serving = subprocess.Popen(
        [
            *(sys.executable, "-m", "spooled_pipelines.cli.main", "serve", "--json"),
            *("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--store", "sqlite:///jobs.db"),
        ],
        cwd=folder,
        env={**environment, "SPOOLED_API_KEY": "sp_test_serve_0123456789abcdef"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with serving, ExitStack() as ends:
        ends.callback(serving.kill)
        assert serving.stdout is not None
        page, listening = (json.loads(serving.stdout.readline()) for _ in range(2))
        with urlopen(f"{page['page']}healthz") as answer:
            assert answer.status == 200
        with connect(listening["listening"], api_key="sp_test_serve_0123456789abcdef") as client:
            assert client.queue_stats("q").total == 0
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(60) == 0


def test_an_address_may_be_a_server_in_the_command_itself(spooled: Spooled) -> None:
    address = ("--address", "embedded:own.db")
    assert spooled("enqueue", "orders.csv", "q", *address).returncode == 0
    assert spooled("work", "q", "handlers:invoice", "--drain", *address).returncode == 0
    assert json.loads(spooled("stats", "q", "--json", *address).stdout)["completed"] == 2


def test_the_key_is_in_no_output(
    worked: str, spooled: Spooled, server: ServerProcess, queue: str
) -> None:
    for arguments in (
        ("stats", queue),
        ("watch", worked),
        ("results", worked),
        ("work", queue, "handlers:invoice", "--drain", "-v"),
    ):
        done = spooled(*arguments)
        assert server.api_key not in done.stdout + done.stderr


def test_retry_puts_dead_letters_back(worked: str, spooled: Spooled, queue: str) -> None:
    assert "retried  0" in spooled("retry", worked, "--error-contains", "no such error").stdout
    done = spooled("retry", worked)
    assert (done.returncode, done.stderr) == (0, "")
    assert "retried  1" in done.stdout
    assert f"next: spooled-pipelines watch {worked}" in done.stdout
    assert json.loads(spooled("stats", queue, "--json").stdout)["pending"] == 1


def test_cancel_says_what_became_of_the_jobs(
    enqueued: str, spooled: Spooled, client: SpooledClient, queue: str
) -> None:
    client.dequeue(queue, "w")
    done = spooled("cancel", enqueued, "--json")
    assert json.loads(done.stdout) == {"cancelled": 2, "running": 1, "done": 0}
    assert "cancelled  2" in spooled("cancel", enqueued).stdout
    missing = spooled("cancel", "b_unknown")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "b_unknown" in missing.stderr


def test_enqueue_says_what_a_rerun_put_back(worked: str, spooled: Spooled, queue: str) -> None:
    arguments = ("enqueue", "orders.csv", queue, "--key", "order_id", "--on-rerun")
    again = spooled(*arguments, "retry_failed")
    assert "retried     1" in again.stdout, again.stderr
    fresh = spooled(*arguments, "fresh", "--json")
    assert json.loads(fresh.stdout)["generation"] == 1


def test_a_queue_is_paused_resumed_and_purged(
    enqueued: str, spooled: Spooled, client: SpooledClient, queue: str
) -> None:
    assert "paused" in spooled("queues", "pause", queue).stdout
    assert client.dequeue(queue, "w") == []
    (stall,) = client.batch(enqueued).stats().stalls
    assert stall.cause == "queue_paused"
    assert "running" in spooled("queues", "resume", queue).stdout
    assert len(client.dequeue(queue, "w")) == 1
    purged = spooled("queues", "purge", queue, "--json")
    assert json.loads(purged.stdout) == {"queue": queue, "cancelled": 2}


@pytest.mark.usefixtures("to_server")
def test_a_queue_is_limited_and_freed(spooled: Spooled, client: SpooledClient, queue: str) -> None:
    spooled("queues", "limit", queue, "--jobs-per-second", "50", "--max-in-flight", "20")
    shown = spooled("queues", "limits", queue, "--json")
    assert json.loads(shown.stdout) == {
        "queue": queue,
        "jobs_per_second": 50.0,
        "burst": 5,
        "max_in_flight": 20,
    }
    assert "max in flight    20" in spooled("queues", "limits", queue).stdout
    for wrong in ((), ("--clear", "--burst", "3")):
        refused = spooled("queues", "limit", queue, *wrong)
        assert refused.returncode == 2
        assert "--clear" in refused.stderr
    assert "max in flight    no limit" in spooled("queues", "limit", queue, "--clear").stdout
    assert client.queue_limits(queue).jobs_per_second is None


def test_dead_letters_are_listed_and_retried(worked: str, spooled: Spooled, queue: str) -> None:
    (line,) = spooled("dead-letters", "list", queue, "--json").stdout.splitlines()
    letter = json.loads(line)
    assert letter["error"]
    assert letter["id"] in spooled("dead-letters", "list", queue).stdout
    none = spooled("dead-letters", "retry", queue, "--error-contains", "no such error")
    assert "retried  0" in none.stdout
    assert "retried  1" in spooled("dead-letters", "retry", queue).stdout
    assert spooled("dead-letters", "list", queue).stdout == ""


def test_dead_letters_are_told_by_error_with_every_attempt_and_discarded(
    worked: str, spooled: Spooled, client: SpooledClient, queue: str
) -> None:
    (line,) = spooled("dead-letters", "errors", "--batch", worked, "--json").stdout.splitlines()
    found = json.loads(line)
    [job_id] = found["job_ids"]
    assert (found["count"], "not to Oslo" in found["error"]) == (1, True)
    told = spooled("dead-letters", "errors", "--batch", worked).stdout
    assert found["error"] in told
    assert job_id in told

    (line,) = spooled("dead-letters", "history", job_id, "--json").stdout.splitlines()
    attempt = json.loads(line)
    assert (attempt["number"], "not to Oslo" in attempt["error"]) == (1, True)
    told = spooled("dead-letters", "history", job_id).stdout
    assert attempt["worker_id"] in told
    assert "not to Oslo" in told

    none = spooled("dead-letters", "discard", queue, "--error-contains", "no such error", "--json")
    assert json.loads(none.stdout) == {"queue": queue, "discarded": 0}
    assert "discarded  1" in spooled("dead-letters", "discard", queue).stdout
    assert spooled("dead-letters", "list", queue).stdout == ""
    assert client.get_job(job_id).status == "cancelled"


def test_dead_letters_that_do_not_exist_are_bad_input(
    to_server: None, spooled: Spooled, queue: str
) -> None:
    for arguments in (("errors", "--batch", "b_unknown"), ("history", "job_unknown")):
        missing = spooled("dead-letters", *arguments)
        assert (missing.returncode, missing.stdout) == (2, ""), missing.stderr
        assert arguments[-1] in missing.stderr


def test_a_misspelt_queue_is_an_error_and_makes_no_queue(
    enqueued: str, spooled: Spooled, queue: str
) -> None:
    mistyped = queue + "x"
    for command in ("list", "errors", "retry", "discard"):
        missing = spooled("dead-letters", command, mistyped)
        assert (missing.returncode, missing.stdout) == (2, ""), missing.stderr
        assert f"did you mean {queue}?" in missing.stderr
    for command in ("resume", "limits", "purge"):
        missing = spooled("queues", command, mistyped)
        assert (missing.returncode, missing.stdout) == (2, ""), missing.stderr
        assert f"did you mean {queue}?" in missing.stderr
    listed = spooled("queues", "list", "--json").stdout.splitlines()
    assert mistyped not in [json.loads(line)["name"] for line in listed]


@pytest.mark.parametrize("more", [(), ("--processes", "2")], ids=["one", "fleet"])
def test_log_lines_do_not_run_into_the_live_line(
    enqueued: str, environment: dict[str, str], folder: Path, queue: str, more: tuple[str, ...]
) -> None:
    program = [sys.executable, "-m", "spooled_pipelines.cli.main", "work", queue]
    program += ["handlers:invoice", "--drain", *more]
    text = on_terminal(program, env=environment, cwd=folder)
    # What is cleared is gone from the screen; other sequences show nothing.
    lines = [re.split(r"\x1b\[2?K", line)[-1] for line in text.splitlines()]
    screen = [re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", line).strip() for line in lines]
    discarded = [line for line in screen if "job discarded" in line]
    assert len(discarded) == 1, text
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ INFO job discarded", discarded[0])
    assert not re.search(r"completed.* INFO ", "\n".join(screen)), text
    assert "2 completed, 1 dead" in screen, text


def test_a_health_file_is_ready_while_the_worker_runs(
    to_server: None, environment: dict[str, str], folder: Path, queue: str
) -> None:
    program = [sys.executable, "-m", "spooled_pipelines.cli.main", "work", queue]
    program += ["handlers:invoice", "--health-file", "health", "--processes", "2"]
    files = [folder / "health", folder / "health-2"]
    with subprocess.Popen(program, cwd=folder, env=environment) as process:
        try:
            # As the probes of docs/kubernetes.md ask.
            for file in files:
                eventually(file.exists, 60)
                eventually(lambda file=file: _succeeds("grep", "-qx", "ready", str(file)))
                assert _succeeds("sh", "-c", f'test -n "$(find {file} -mmin -1)"')
        finally:
            process.terminate()
        assert process.wait(30) == 0
    assert not any(file.exists() for file in files)


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, check=False).returncode == 0
