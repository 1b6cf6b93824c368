"""Supervision of worker processes, for `work --processes N` and `--reload`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TypedDict

from spooled_pipelines.cli.error_output import print_error
from spooled_pipelines.cli.exit_codes import BAD_INPUT, DENIED, UsageError

if TYPE_CHECKING:
    from spooled_pipelines.worker import WorkerReport

# Says to a supervised worker its number, and the file descriptor to which it reports.
_LINK_VARIABLE = "SPOOLED_WORK_LINK"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
# Exit codes that a restart does not cure.
_PERMANENT = (BAD_INPUT, DENIED)
_POLL_SECONDS = 0.1
_REPORT_SECONDS = 0.25
_LAST_LINE_SECONDS = 1.0


class _Line(TypedDict):
    """What a worker process reports: its counts so far, and at last that it is done."""

    worker_id: str
    counts: dict[str, int]
    is_done: bool


class _WorkerProcess:
    """A worker process, replaced by another one when it crashes."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.counts: Mapping[str, int] = {}
        # Its name for the server, once it is known, and whether it ended of its own accord.
        self.worker_id = ""
        self.is_done = False
        # The counts of the processes that this one replaced.
        self.earlier_counts: Counter[str] = Counter()
        self.pause = _FIRST_PAUSE
        self.restart_at: float | None = None
        # Set when it is to be restarted once it has ended.
        self.is_restarting = False
        self._start()

    def _start(self) -> None:
        reading, writing = os.pipe()
        self._running_log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the next, or this
        log = self._running_log.fileno()
        self.started_at = time.monotonic()
        self.restart_at = None
        self.is_restarting = False
        # In its own session: Ctrl-C is for the supervisor.
        self.process = subprocess.Popen(  # noqa: S603 - this program itself
            [sys.executable, "-m", "spooled_pipelines.cli.main", *sys.argv[1:]],
            env={**os.environ, _LINK_VARIABLE: f"{self._number} {writing} {log}"},
            pass_fds=[writing, log],
            start_new_session=True,
        )
        os.close(writing)
        self._reader = threading.Thread(target=self._read, args=(reading,), daemon=True)
        self._reader.start()

    def running_jobs(self) -> list[str] | None:
        """Return the ids of the jobs that ran when it died; None if that is not known."""
        from spooled_pipelines.worker.handlers.running_log import running_jobs

        return running_jobs(self._running_log.fileno())

    def restart(self) -> None:
        self._running_log.close()
        self.earlier_counts.update(self.counts)
        self.counts = {}
        self._start()

    def exit_code(self) -> int | None:
        """Return how it ended, None while it runs; from then on `is_done` is right."""
        code = self.process.poll()
        if code == 0:
            # What a handler started may hold the other end of the pipe.
            self._reader.join(_LAST_LINE_SECONDS)
        return code

    def _read(self, reading: int) -> None:
        self.worker_id, self.is_done = "", False
        with os.fdopen(reading) as lines:
            for text in lines:
                line: _Line = json.loads(text)
                self.worker_id = line["worker_id"]
                self.counts, self.is_done = line["counts"], line["is_done"]


class Supervisor:
    """A parent of worker processes that restarts those that crash, and forwards signals.

    Each runs the command of this process, and finds a `supervisor_link` that says which it is.

    Args:
        processes: how many.
        show: called regularly with the counts of all workers together.
        report_death: called with the id and exit code of a worker that crashed, and the ids of the
            jobs that it ran, before the next is started.
        reloads: whether a worker that ends waits for `restart`.
    """

    def __init__(
        self,
        processes: int,
        show: Callable[[Counter[str]], None],
        report_death: Callable[[str, int, list[str] | None], None],
        *,
        reloads: bool = False,
    ) -> None:
        self._processes = processes
        self._show = show
        self._report_death = report_death
        self._workers: list[_WorkerProcess] = []
        self._signals = 0
        self._reloads = reloads

    def counts(self) -> Counter[str]:
        """Return what all workers did, including crashed ones as far as they had reported."""
        total: Counter[str] = Counter()
        for worker in self._workers:
            total.update(worker.earlier_counts)
            total.update(worker.counts)
        return total

    def run(self) -> int:
        """Run until all have ended; return the first exit code that is not 0, else 0."""
        with self._handling_signals():
            self._workers = [_WorkerProcess(number) for number in range(self._processes)]
            while not self._all_ended():
                self._show(self.counts())
                time.sleep(_POLL_SECONDS)
        codes = [worker.process.returncode for worker in self._workers]
        if self._signals:
            # SIGTERM killed it before it had a handler, so it had nothing to finish.
            codes = [0 if code == -signal.SIGTERM else code for code in codes]
        return next((code if code > 0 else 128 - code for code in codes if code), 0)

    def restart(self) -> None:
        """Let each worker finish, and restart it with the code as it is now."""
        for worker in self._workers:
            worker.is_restarting = True
        self._send(signal.SIGTERM)

    def _all_ended(self) -> bool:
        """Check every worker; return whether all have ended for good."""
        ended = [self._has_ended(worker) for worker in self._workers]
        return all(ended)

    def _has_ended(self, worker: _WorkerProcess) -> bool:
        now = time.monotonic()
        code = worker.exit_code()
        if code is None:
            if now - worker.started_at > _LONGEST_PAUSE:
                worker.pause = _FIRST_PAUSE
            return False
        if self._signals:
            return True
        if worker.is_restarting:
            worker.restart()
        elif code in _PERMANENT or (code == 0 and worker.is_done):
            # While code is being written, the next change may cure it.
            return not self._reloads
        elif worker.restart_at is None:
            if worker.counts.get("completed"):
                # It got something done: what kills is some job, which runs alone in the end.
                worker.pause = _FIRST_PAUSE
            how = signal.Signals(-code).name if code < 0 else f"status {code}"
            print_error(
                f"worker {worker.process.pid} ended with {how}; restarting it in {worker.pause:g} s"
            )
            worker.restart_at = now + worker.pause
            if worker.worker_id:
                self._report_death(worker.worker_id, code, worker.running_jobs())
            worker.pause = min(_LONGEST_PAUSE, worker.pause * 2)
        elif now >= worker.restart_at:
            worker.restart()
        return False

    def _send(self, number: int) -> None:
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(number)

    @contextlib.contextmanager
    def _handling_signals(self) -> Iterator[None]:
        def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            self._signals += 1
            self._send(signal.SIGTERM)

        before = {
            number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for worker in self._workers:
                if worker.process.poll() is None:
                    worker.process.kill()
                worker.process.wait()
            for number, handler in before.items():
                signal.signal(number, handler)


def reload_on_change(supervisor: Supervisor, folder: Path) -> threading.Thread:
    """Restart the workers when a Python file below the folder changes, on a thread.

    Raises:
        UsageError: the package that watches files is not installed.
    """
    try:
        from watchfiles import PythonFilter, watch
    except ImportError:
        raise UsageError(
            "--reload needs watchfiles: pip install 'spooled-pipelines[worker]'"
        ) from None

    def follow() -> None:
        for changes in watch(folder, watch_filter=PythonFilter(), raise_interrupt=False):
            names = ", ".join(sorted({Path(path).name for _, path in changes}))
            print_error(f"{names} changed, restarting")
            supervisor.restart()

    thread = threading.Thread(target=follow, name="spooled-reload", daemon=True)
    thread.start()
    return thread


@dataclass(frozen=True)
class SupervisorLink:
    """A supervised worker's number, from 0, and the file descriptors for its reports."""

    number: int
    descriptor: int
    running_log: int

    @contextlib.contextmanager
    def reporting(
        self, worker_id: str, report: Callable[[], WorkerReport], stop: Callable[[], None]
    ) -> Iterator[None]:
        """Report regularly what was done, and stop if the supervisor has gone."""
        done = threading.Event()
        with os.fdopen(self.descriptor, "w") as pipe:

            def send_report(is_done: bool = False) -> None:
                line = _Line(worker_id=worker_id, counts=asdict(report()), is_done=is_done)
                print(json.dumps(line), file=pipe, flush=True)

            def send_regularly() -> None:
                try:
                    while not done.wait(_REPORT_SECONDS):
                        send_report()
                except OSError:
                    # The supervisor has gone.
                    stop()

            name = "spooled-work-report"
            thread = threading.Thread(target=send_regularly, name=name, daemon=True)
            with contextlib.suppress(OSError):
                # Before any job can kill it.
                send_report()
            thread.start()
            try:
                yield
            finally:
                done.set()
                thread.join()
                with contextlib.suppress(OSError):
                    send_report(is_done=True)


def supervisor_link() -> SupervisorLink | None:
    """Return the link to the supervisor of this process; only the first call finds it."""
    # Taken out, so that no program which a handler starts believes that it is supervised.
    link = os.environ.pop(_LINK_VARIABLE, None)
    return None if link is None else SupervisorLink(*map(int, link.split()))
