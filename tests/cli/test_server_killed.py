"""A server that is killed while a command runs: one line, what is done so far, how to go on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spooled_pipelines import connect
from tests.support import forked
from tests.support.proxy import Proxy
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually

ROWS = 60_000
# All that a command sends of them.
SENT_BYTES = 3_000_000
# The command as it is, but for the minutes that it waits for a server to come back.
PROGRAM = """
import sys, time
from spooled_pipelines.batch.flow_control import RetryBudget
from spooled_pipelines.batch.sync import watch
from spooled_pipelines.cli.main import main
RetryBudget.__init__.__defaults__ = (1.0, time.monotonic)
watch._AWAY_SECONDS = 1.0
main()
"""
Start = Callable[..., "forked.Popen"]


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that the test may kill."""
    with ServerProcess(tmp_path / "mortal.db") as server:
        yield server


@pytest.fixture
def start(mortal: ServerProcess, environment: dict[str, str], folder: Path) -> Iterator[Start]:
    """Starts a command of the shell against that server."""
    told = {"SPOOLED_API_KEY": mortal.api_key}
    started: list[forked.Popen] = []

    def start(*arguments: str, address: str = mortal.address) -> forked.Popen:
        command = forked.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=folder,
            env={**environment, **told, "SPOOLED_GRPC_ADDRESS": address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(command)
        return command

    yield start
    for command in started:
        command.kill()
        command.communicate()


def complaint(command: forked.Popen, code: int) -> str:
    """The one line on stderr of a command that ended with this code."""
    _, said = command.communicate(timeout=60)
    assert command.returncode == code, said
    assert said.startswith("spooled-pipelines: ")
    assert said.count("\n") == 1
    return said


def test_enqueueing_says_how_far_it_came_and_the_same_command_finishes_it(
    mortal: ServerProcess, start: Start, folder: Path
) -> None:
    (folder / "many.csv").write_text("n\n" + "\n".join(map(str, range(ROWS))))
    with (
        Proxy(mortal.address) as proxy,
        connect(mortal.address, api_key=mortal.api_key) as client,
    ):
        killed = threading.Event()

        def kill() -> None:
            eventually(lambda: client.queue_stats("q").total)
            mortal.kill()
            killed.set()

        proxy.strike(SENT_BYTES // 2, kill)
        command = start("enqueue", "many.csv", "q", "--key", "n", address=proxy.address)
        said = complaint(command, 3)
        assert killed.is_set()
        assert proxy.address in said
        assert f"of {ROWS} rows were acknowledged" in said
        assert "Repeat the same call to resume" in said
        mortal.restart()
        again = start("enqueue", "many.csv", "q", "--key", "n")
        assert again.wait(60) == 0
        assert client.queue_stats("q").total == ROWS


def test_watching_says_that_the_server_is_gone(mortal: ServerProcess, start: Start) -> None:
    enqueued, _ = start("enqueue", "orders.csv", "q", "--json").communicate(timeout=60)
    command = start("watch", json.loads(enqueued)["batch_id"], "--json")
    assert command.stdout is not None
    # It follows the batch by now.
    assert json.loads(command.stdout.readline())["pending"] == 3
    mortal.kill()
    assert mortal.address in complaint(command, 3)
