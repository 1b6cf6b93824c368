"""A real server in a process of its own, that can be killed and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import forked
from tests.support.ports import HeldPort

if TYPE_CHECKING:
    from typing_extensions import Self

API_KEY = "sp_test_0123456789abcdefghijklmnopqrstuv"
START_SECONDS = 30.0
STOP_SECONDS = 60.0
_READY = "listening on "
_PAGE = "page at "


def complaints_in(log: str) -> list[str]:
    """The lines but for those that say that a server started, drained, and the like."""
    lines = log.splitlines()
    return [line for line in lines if " INFO spooled_pipelines.server.operator: " not in line]


class ServerProcess:
    """`spooled-pipelines serve` over one SQLite file; a context manager.

        with ServerProcess(tmp_path / "jobs.db") as server:
            connect(server.address, api_key=server.api_key)

    `restart()` comes back on the same port and file. Other arguments go to the command as they
    are, for example `"--no-batch-extension"`.
    """

    def __init__(
        self,
        store: Path,
        *arguments: str,
        api_key: str = API_KEY,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.store = store
        self.api_key = api_key
        self.host = host
        self.port = port
        self.arguments = arguments
        # A folder with another version of the package, whose server it is to be.
        self.version: Path | None = None
        # The URL of the page, with "--http".
        self.page = ""
        self.log = store.with_name(store.name + ".log")
        self._process: subprocess.Popen[str] | None = None
        self._held: HeldPort | None = None

    @property
    def address(self) -> str:
        assert self.port, "the server was not started yet"
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server does not run"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def complaints(self) -> list[str]:
        """The lines of its log but for those that say that it started, drained, and the like."""
        return complaints_in(self.log.read_text())

    def start(self) -> Self:
        """Starts it and returns when it listens."""
        assert not self.running, "the server runs already"
        if not self.port:
            self._held = HeldPort()
            self.port = self._held.number
        command = [sys.executable, "-m", "spooled_pipelines.cli.main", "serve"]
        command += ["--listen", f"{self.host}:{self.port}", "--store", f"sqlite:///{self.store}"]
        command += ["--api-key", self.api_key, *self.arguments]
        with self.log.open("ab") as log:
            start = forked.Popen if self.version is None else subprocess.Popen
            self._process = start(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.version,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        line = self._next_line(self._process)
        if line.startswith(_PAGE):
            self.page = line.removeprefix(_PAGE)
            line = self._next_line(self._process)
        if not line.startswith(_READY):
            self.kill()
            raise AssertionError(f"the server did not start ({line!r}): {self.log.read_text()}")
        self.port = int(line.rpartition(":")[2])
        return self

    def kill(self) -> None:
        """kill -9, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, and wait; the exit code."""
        return self._end(signal.SIGTERM)

    def restart(self) -> Self:
        """Starts it again where it was, after `kill()` or `stop()`."""
        return self.start()

    def pause(self) -> None:
        """SIGSTOP: the connection stays, and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()
        if self._held is not None:
            self._held.close()

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        assert process is not None, "the server does not run"
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(
                f"the server did not end within {STOP_SECONDS:g} s of {number.name}"
            ) from None
        finally:
            assert process.stdout is not None
            process.stdout.close()

    @staticmethod
    def _next_line(process: subprocess.Popen[str]) -> str:
        # A watchdog: reading a pipe has no time-out of its own.
        watchdog = threading.Timer(START_SECONDS, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
        finally:
            watchdog.cancel()
        if not line.startswith("{"):
            return line
        # With a log in JSON.
        ((name, where),) = json.loads(line).items()
        return {"listening": _READY, "page": _PAGE}[name] + str(where)
