"""The command, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import unittest.mock
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import forked
from tests.support.cli import command
from tests.support.server_process import ServerProcess

Spooled = Callable[..., "subprocess.CompletedProcess[str]"]

OF_A_PROCESS = {("work",), ("serve",)}
TABLE = "order_id,amount,city\n1,2.5,Rome\n2,3.5,Oslo\n3,,Bern\n"
HANDLERS = """
from spooled_pipelines.worker import Discard

def invoice(job):
    if job.payload["city"] == "Oslo":
        raise Discard("not to Oslo")
    return {"city": job.payload["city"].upper(), "parts": [1, 2]}

not_a_function = 7
"""


@pytest.fixture
def environment() -> dict[str, str]:
    """The caller's environment without any word about a server."""
    told = {name: value for name, value in os.environ.items() if not name.startswith("SPOOLED_")}
    return {**told, "COLUMNS": "100", "NO_COLOR": "1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The working folder: a table and a module with handlers."""
    (tmp_path / "orders.csv").write_text(TABLE)
    (tmp_path / "handlers.py").write_text(HANDLERS)
    return tmp_path


@pytest.fixture
def spooled(folder: Path, environment: dict[str, str]) -> Spooled:
    """`spooled("stats", "orders", SPOOLED_API_KEY=…)`: runs the command to its end.

    Those that take signals, load modules or set up logs do it in a process of their own, the others
    in this one: starting Python takes longer than what most of them do.
    """

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        told = {**environment, **more}
        if arguments[:1] in OF_A_PROCESS:
            return forked.run(
                [sys.executable, "-m", "spooled_pipelines.cli.main", *arguments],
                cwd=folder,
                env=told,
                timeout=60,
            )
        with (
            pytest.MonkeyPatch.context() as patch,
            unittest.mock.patch.dict(os.environ, told, clear=True),
        ):
            patch.chdir(folder)
            done = command(*arguments)
        return subprocess.CompletedProcess(arguments, done.code, done.stdout, done.stderr)

    return run


@pytest.fixture
def to_server(server: ServerProcess, environment: dict[str, str]) -> None:
    """Names the shared server in the environment of `spooled`."""
    environment["SPOOLED_GRPC_ADDRESS"] = server.address
    environment["SPOOLED_API_KEY"] = server.api_key
