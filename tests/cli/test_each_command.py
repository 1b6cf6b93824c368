"""What holds for every command: an exit code for each end, JSON when asked for, and never a key."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from spooled_pipelines import SpooledClient, connect
from spooled_pipelines.server.store.administration.migrate import migrate
from tests.support.cli import command, on_terminal
from tests.support.server_process import ServerProcess

WRONG = "sp_test_wrong"
# Each that asks a server, with what it is given for a queue Q, a batch B, a dead job J
# of it, another dead one D, and a pending one P.
REMOTE: dict[str, tuple[str, ...]] = {
    "enqueue": ("enqueue", "orders.csv", "Q", "--key", "order_id"),
    "plan": ("plan", "orders.csv", "Q", "--key", "order_id"),
    "stats": ("stats", "Q"),
    "watch": ("watch", "B", "--max-failed", "100%"),
    "results": ("results", "B"),
    "job": ("jobs", "show", "J"),
    "cancel-job": ("jobs", "cancel", "P"),
    "retry-job": ("jobs", "retry", "J"),
    "discard-job": ("jobs", "discard", "D"),
    "cancel": ("cancel", "B"),
    "retry": ("retry", "B"),
    "queues": ("queues", "list"),
    "batches": ("batches", "list", "--queue", "Q", "--since", "1h"),
    "workers": ("workers", "list"),
    "jobs": ("jobs", "list", "--queue", "Q", "--status", "deadletter"),
    "rename": ("queues", "rename", "Q", "Q"),
    "pause": ("queues", "pause", "Q"),
    "resume": ("queues", "resume", "Q"),
    "limit": ("queues", "limit", "Q", "--max-in-flight", "5"),
    "limits": ("queues", "limits", "Q"),
    "purge": ("queues", "purge", "Q"),
    "dead-letters": ("dead-letters", "list", "Q"),
    "errors": ("dead-letters", "errors", "Q"),
    "errors-of-batch": ("dead-letters", "errors", "--batch", "B"),
    "history": ("dead-letters", "history", "J"),
    "dead-letters-retry": ("dead-letters", "retry", "Q"),
    "discard": ("dead-letters", "discard", "Q"),
    "keys": ("keys", "list"),
    "audit": ("audit",),
    "doctor": ("doctor",),
}
LOCAL: dict[str, tuple[str, ...]] = {
    "check": ("check", "--store", "sqlite:///STORE"),
    "backup": ("backup", "COPY", "--store", "sqlite:///STORE"),
    "organizations": ("organizations", "list", "--store", "sqlite:///STORE"),
    "copy": ("copy", "FROM", "TO"),
    "migrate": ("migrate", "--plan", "--store", "sqlite:///STORE"),
    "profiles": ("profiles",),
}
ALL = {**REMOTE, **LOCAL}


@pytest.fixture(autouse=True)
def _in_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SPOOLED_CONFIG", "config.toml")
    (folder / "config.toml").write_text('[profiles.one]\naddress = "localhost:1"\n')


@pytest.fixture
def named(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared server in the environment."""
    monkeypatch.setenv("SPOOLED_GRPC_ADDRESS", server.address)
    monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)


@pytest.fixture
def filled(
    named: None, client: SpooledClient, queue: str, server: ServerProcess, folder: Path
) -> Callable[[tuple[str, ...]], list[str]]:
    """Puts real names into a command's arguments: of a batch that is done, one of it dead."""
    batch = client.enqueue_batch([{"id": 1}, {"id": 2}], queue, key="id")
    alone = client.enqueue(queue, {}).job_id
    done, dead, other = client.dequeue(queue, "w", batch_size=3)
    client.complete(done, result={"a": 1})
    client.fail(dead, "broken", retry=False)
    client.fail(other, "alone", retry=False)
    client.register_worker(queue, worker_id=f"w-{queue}")
    names = {
        "Q": queue,
        "B": batch.id,
        "J": dead.id,
        "D": alone,
        "P": client.enqueue(queue, {}).job_id,
        "COPY": str(folder / "copy.db"),
        "FROM": f"sqlite:///{folder / 'from.db'}",
        "TO": f"sqlite:///{folder / 'to.db'}",
    }

    def put(arguments: tuple[str, ...]) -> list[str]:
        if "FROM" in arguments:
            migrate(names["FROM"])
        if arguments[0] in ("keys", "audit"):
            assert command("keys", "create", "--role", "read", "--name", "n").code == 0
        return [
            names.get(argument, argument.replace("STORE", str(server.store)))
            for argument in arguments
        ]

    return put


@pytest.mark.parametrize("name", ALL)
def test_json_is_lines_of_json_and_nothing_else(
    filled: Callable[[tuple[str, ...]], list[str]], server: ServerProcess, name: str
) -> None:
    done = command(*filled(ALL[name]), "--json")
    assert done.code == 0, done.stderr
    assert done.stdout
    for line in done.stdout.splitlines():
        json.loads(line)
    assert server.api_key not in done.stdout + done.stderr


@pytest.mark.parametrize("name", REMOTE)
def test_without_a_key_it_is_denied(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SPOOLED_GRPC_ADDRESS", "127.0.0.1:1")
    done = command(*REMOTE[name])
    assert done.code == 4
    assert "SPOOLED_API_KEY" in done.stdout + done.stderr
    assert done.stderr.count("\n") <= 1


def test_without_any_server_it_is_the_file_of_this_folder_and_says_so(folder: Path) -> None:
    done = command("stats", "q")
    assert done.code == 2
    assert "no server is named, and this folder has no spooled.db" in done.stderr
    done = command("enqueue", "orders.csv", "q")
    assert done.code == 0, done.stderr
    assert f"no server is named; using {folder / 'spooled.db'}" in done.stderr
    assert json.loads(command("stats", "q", "--json").stdout)["pending"] == 3
    with connect() as client:
        assert client.settings.name == f"embedded:{folder / 'spooled.db'}"


@pytest.mark.parametrize("name", REMOTE)
def test_a_wrong_key_is_denied_and_not_shown(
    named: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SPOOLED_API_KEY", WRONG)
    done = command(*REMOTE[name])
    assert done.code == 4
    assert WRONG not in done.stdout + done.stderr
    assert done.stderr.count("\n") <= 1


# Each tries for some seconds, by the same code: not all of them.
@pytest.mark.parametrize("name", ["enqueue", "keys", "doctor"])
def test_without_a_server_it_is_unreachable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SPOOLED_GRPC_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("SPOOLED_API_KEY", "sp_test_any")
    done = command(*REMOTE[name])
    assert done.code == 3
    assert "127.0.0.1:1" in done.stdout + done.stderr
    assert done.stderr.count("\n") <= 1


@pytest.mark.parametrize("name", ALL)
def test_a_wrong_option_is_bad_usage(name: str) -> None:
    done = command(*ALL[name], "--nope")
    assert (done.code, done.stdout) == (2, "")
    assert "--nope" in done.stderr
    assert done.stderr.count("\n") == 1


def test_more_failed_jobs_than_allowed_are_code_1(
    filled: Callable[[tuple[str, ...]], list[str]],
) -> None:
    done = command(*filled(("watch", "B")))
    assert done.code == 1
    assert "1 × broken" in done.stderr


def test_a_limit_that_was_reached_is_code_5(
    start_server: Callable[..., ServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server("--daily-quota", "1")
    monkeypatch.setenv("SPOOLED_GRPC_ADDRESS", server.address)
    monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)
    done = command("enqueue", "orders.csv", "q")
    assert done.code == 5
    assert "daily job limit" in done.stderr


def test_the_codes_are_all_documented() -> None:
    from spooled_pipelines.cli import exit_codes

    page = (Path(__file__).parents[2] / "docs" / "shell.md").read_text()
    values = {
        value for name, value in vars(exit_codes).items() if name.isupper() and name[0] != "_"
    }
    assert {value for value in values if f"| {value} |" not in page} == set()


def test_every_command_and_group_is_among_those_tested() -> None:
    import typer

    from spooled_pipelines.cli.app import app

    tested = {arguments[0] for arguments in ALL.values()}
    # Those that run until they are told to end have tests of their own.
    assert set(cast("Any", typer.main.get_command(app)).commands) == tested | {"serve", "work"}


def test_a_terminal_shows_every_command_to_people(
    filled: Callable[[tuple[str, ...]], list[str]], server: ServerProcess
) -> None:
    """All in one process on a real terminal: rows, no JSON, no traceback, no key."""
    program = (
        "import json, sys\n"
        "from spooled_pipelines.cli.app import run\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    code = run(arguments)\n"
        "    print(f'== {arguments[0]} ended with {code}', flush=True)\n"
    )
    calls = [filled(arguments) for arguments in ALL.values()]
    command = [sys.executable, "-c", program, json.dumps(calls)]
    text = on_terminal(command, env={"COLUMNS": "120"})
    assert text.count("ended with 0") == len(calls), text
    assert "Traceback" not in text
    assert server.api_key not in text
    assert '\n{"' not in text
    # What moves is written over, and what is good is green.
    assert "\r\x1b[K" in text
    assert "\x1b[32mok" in text
    # Results are a table there.
    assert "completed" in text
    assert "----" in text
