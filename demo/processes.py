"""Processes that the demo starts, each in its own session, and their reliable end.

Airflow's components create their own process groups, so ending one group is not enough: everything
in the session is ended.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")
GRACE_SECONDS = 10.0
TAIL_LINES = 30
# Below those that systems give to whatever asks for any.
_PORTS = range(20_000, 32_000)


class DemoError(Exception):
    """The demo cannot go on; the message says why, with the end of the log that matters."""


class Session:
    """A process in its own session, writing to a log file; `end` leaves nothing of it behind."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        folder: Path,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 - the demo's own commands
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )

    def end(self) -> None:
        """Ask every process of the session to end, then make those that have not."""
        ends = time.monotonic() + GRACE_SECONDS
        _signal_all(self.members(), signal.SIGTERM)
        while self.members() and time.monotonic() < ends:
            time.sleep(0.05)
        while members := self.members():
            _signal_all(members, signal.SIGKILL)
            time.sleep(0.05)
        self.process.wait()

    def kill(self) -> None:
        """End every process of the session at once, as a crash would."""
        while members := self.members():
            _signal_all(members, signal.SIGKILL)
            time.sleep(0.01)
        self.process.wait()

    def members(self) -> list[int]:
        """Return the ids of its living processes."""
        self.process.poll()
        return [pid for pid, session in _living() if session == self.process.pid]

    def failed(self, what: str) -> DemoError:
        """Return the error to raise when this process is why the demo stops."""
        return DemoError(f"{what}\nThe last lines of {self.name} ({self.log}):\n{tail(self.log)}")

    def until(self, ready: Callable[[], T | None], *, seconds: float, what: str) -> T:
        """Call ``ready`` until it returns something other than None, and return that.

        Raises:
            DemoError: the process ended, or the time is up; with the end of its log.
        """
        ends = time.monotonic() + seconds
        while True:
            found = ready()
            if found is not None:
                return found
            if self.process.poll() is not None:
                raise self.failed(f"{self.name} ended while the demo waited for {what}.")
            if time.monotonic() > ends:
                raise self.failed(f"{what}: not within {seconds:.0f} s.")
            time.sleep(0.2)


class Sessions:
    """The sessions of one demo; leaving the `with` ends all of them, the last one first."""

    def __init__(self) -> None:
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A second Ctrl-C must not leave half of them running.
        with _DeferredSignals():
            self._ends.close()

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        folder: Path,
    ) -> Session:
        """Start a process, which ends with this object at the latest."""
        # No signal may arrive between the start and its registration.
        with _DeferredSignals():
            session = Session(name, command, log=log, environment=environment, folder=folder)
            self._ends.callback(session.end)
        return session


class _DeferredSignals:
    """A context that defers the signals that would end the demo to its own end."""

    _NAMES = (signal.SIGINT, signal.SIGTERM)

    def __enter__(self) -> None:
        self._came: list[int] = []
        self._before = {
            name: signal.signal(name, lambda number, _: self._came.append(number))
            for name in self._NAMES
        }

    def __exit__(self, *_: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)
        for number in self._came:
            signal.raise_signal(number)


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a text file, or a sentence where there are none."""
    text = path.read_text(errors="replace") if path.exists() else ""
    return "\n".join(text.splitlines()[-lines:]) or "(nothing was written)"


def free_ports(count: int) -> list[int]:
    """Return different ports on which nothing listens, and which no system gives away by itself.

    What is to listen there may take half a minute to do so.
    """
    ports: list[int] = []
    candidates = random.SystemRandom().sample(_PORTS, len(_PORTS))
    while len(ports) < count:
        port = candidates.pop()
        with suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            ports.append(port)
    return ports


def _signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _living() -> Iterator[tuple[int, int]]:
    """Yield each living process and its session; zombies are left out."""
    proc = Path("/proc/self/stat")
    if not proc.exists():
        yield from _living_by_ps()
        return
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            # "pid (name) state parent group session ...", and a name may hold anything.
            state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if state not in "ZX":
                yield int(entry.name), int(session)


def _living_by_ps() -> Iterator[tuple[int, int]]:
    command = ["/bin/ps", "-A", "-o", "pid=,stat="]
    listed = subprocess.run(  # noqa: S603 - a constant
        command, capture_output=True, text=True, check=True
    )
    for line in listed.stdout.splitlines():
        pid, state = line.split()[:2]
        with suppress(OSError):
            if not state.startswith("Z"):
                yield int(pid), os.getsid(int(pid))
