"""Python programs that start at once: each is forked from a process that has the imports already.

    python -m tests.support.forked SOCKET     imports, then forks what it is asked for

A program that a test starts takes half a second of a processor for its interpreter and its imports,
and a run of tests starts many hundreds. One that is forked has a process, an environment, a folder
and files of its own, and is stopped, killed and waited for as any other. What is about starting,
importing or memory takes `subprocess` itself.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support import programs

# What the server, the client, the worker and the shell import, as far as it is installed.
MODULES = (
    "grpc_health.v1.health",
    "grpc_reflection.v1alpha.reflection",
    "pandas",
    "pyarrow.csv",
    "pyarrow.parquet",
    "pydantic.fields",
    "pydantic.type_adapter",
    "pydantic.types",
    "typer.main",
    "spooled_pipelines.batch.outcome",
    "spooled_pipelines.batch.sync.enqueue",
    "spooled_pipelines.cli.app",
    "spooled_pipelines.cli.commands.enqueue",
    "spooled_pipelines.cli.commands.serve",
    "spooled_pipelines.cli.commands.work",
    "spooled_pipelines.client.connect",
    "spooled_pipelines.client.process_responses",
    "spooled_pipelines.server.serve",
    "spooled_pipelines.server.store.postgres.store",
    "spooled_pipelines.server.store.sqlite.store",
    "spooled_pipelines.worker.worker",
)
# Longer than any environment.
_REQUEST_BYTES = 200_000
_lock = threading.Lock()
_started: list[tuple[socket.socket, subprocess.Popen[bytes]]] = []


class Popen(subprocess.Popen[str]):
    """A `subprocess.Popen` of ``[sys.executable, …]`` with ``"-m"``, ``"-c"`` or a file."""

    _told: socket.socket

    def _execute_child(self, args: Any, *more: Any) -> None:
        (_, _, _, _, cwd, env, _, _, _, *pipes) = more
        command = [str(word) for word in args]
        assert command[0] == sys.executable, command
        stdin, written, read, stdout, errors, stderr = pipes[:6]
        self._told, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = dict(os.environ if env is None else env)
        request = json.dumps([command[1:], str(cwd or Path.cwd()), environment])
        files = [own if given == -1 else given for own, given in enumerate((stdin, stdout, stderr))]
        with theirs:
            socket.send_fds(_fork_server(), [request.encode()], [*files, theirs.fileno()])
        self._close_pipe_fds(stdin, written, read, stdout, errors, stderr)  # type: ignore[attr-defined]
        pid = self._told.recv(100)
        assert pid, "what forks programs has ended: standard error has more"
        self.pid = int(pid)
        self._child_created = True

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        try:
            return self._wait(0)
        except subprocess.TimeoutExpired:
            return None

    def _wait(self, timeout: float | None) -> int:
        with self._waitpid_lock:  # type: ignore[attr-defined]
            if self.returncode is None:
                self._told.settimeout(timeout)
                try:
                    self.returncode = int(self._told.recv(100))
                except (TimeoutError, BlockingIOError):
                    raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from None
                self._told.close()
            return self.returncode


def run(
    command: list[str], *, timeout: float | None = None, check: bool = False, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Do what `subprocess.run` does, with ``capture_output`` and ``text``."""
    pipe = subprocess.PIPE
    with Popen(command, stdout=pipe, stderr=pipe, text=True, **more) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def _fork_server() -> socket.socket:
    with _lock:
        if not _started:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                process = subprocess.Popen(
                    programs.command("forked", str(theirs.fileno())),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    # As the shell has it; gRPC looks when it is imported.
                    env=programs.environment(GRPC_VERBOSITY="NONE"),
                    pass_fds=[theirs.fileno()],
                )
            _started.append((ours, process))
        return _started[0][0]


@atexit.register
def end() -> None:
    """End what forks, and what it has forked; where we are killed, the socket's end does it."""
    while _started:
        control, process = _started.pop()
        control.close()
        process.wait()


def _fork_what_is_asked_for(control: socket.socket) -> tuple[list[str], str, dict[str, str]] | None:
    """Return in each child what it is to be; None when nobody is left to ask."""
    running: dict[int, socket.socket] = {}
    ended, ends = socket.socketpair()
    ends.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(ends.fileno())
    with selectors.DefaultSelector() as selector, control, ended, ends:
        selector.register(control, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if ended in ready:
                ended.recv(_REQUEST_BYTES)
                _tell_those_who_wait(running)
            if control not in ready:
                continue
            message, files, _, _ = socket.recv_fds(control, _REQUEST_BYTES, 4)
            if not message:
                for pid in running:
                    os.kill(pid, signal.SIGKILL)
                return None
            told = socket.socket(fileno=files.pop())
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for other in (told, *running.values()):
                    other.close()
                for number, file in enumerate(files):
                    os.dup2(file, number)
                    os.close(file)
                request: tuple[list[str], str, dict[str, str]] = json.loads(message)
                return request
            for file in files:
                os.close(file)
            running[pid] = told
            _tell(told, pid)


def _tell_those_who_wait(running: dict[int, socket.socket]) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with running.pop(pid) as told:
                _tell(told, os.waitstatus_to_exitcode(status))


def _tell(told: socket.socket, number: int) -> None:
    # The one who asked may have lost interest.
    with contextlib.suppress(OSError):
        told.send(str(number).encode())


def _become(command: list[str], folder: str, environment: dict[str, str]) -> None:
    """Run the command as the interpreter does, in the process that we are."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    for action in filter(None, environment.get("PYTHONWARNINGS", "").split(",")):
        warnings.simplefilter(action)  # type: ignore[arg-type]
    unbuffered = bool(environment.get("PYTHONUNBUFFERED"))
    sys.stdin, sys.stdout, sys.stderr = (_stream(0), _stream(1, unbuffered), _stream(2, True))
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [folder, *(path for path in paths if path and path not in sys.path)]
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    elif command[0] == "-c":
        sys.argv = ["-c", *command[2:]]
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(command[1], "<string>", "exec"), vars(main))
    else:
        assert not command[0].startswith("-"), command
        sys.argv = command
        sys.path[0] = str(Path(command[0]).resolve().parent)
        runpy.run_path(command[0], run_name="__main__")


def _stream(number: int, unbuffered: bool = False) -> io.TextIOWrapper:
    mode = "w" if number else "r"
    raw: Any = io.FileIO(number, mode, closefd=False)
    below = raw if unbuffered else io.BufferedWriter(raw) if number else io.BufferedReader(raw)
    return io.TextIOWrapper(
        below,
        encoding="utf-8",
        errors="backslashreplace" if number == 2 else "surrogateescape",
        line_buffering=number == 2 or os.isatty(number),
        write_through=unbuffered,
    )


if __name__ == "__main__":
    for name in MODULES:
        if find_spec(name.partition(".")[0]) is not None:
            importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # numpy has threads that wait for work, and gets over it.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    asked = _fork_what_is_asked_for(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        _become(*asked)
