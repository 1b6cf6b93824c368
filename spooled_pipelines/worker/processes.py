"""Handlers in processes of their own: one that crashes takes one job with it, and no more."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from spooled_pipelines.errors import InvalidArgumentError, SpooledError
from spooled_pipelines.worker.handling import Handling
from spooled_pipelines.worker.log import logger
from spooled_pipelines.worker.outcome import Completed, Failed, Outcome, refused
from spooled_pipelines.worker.runners import Finished, Lot, ThreadRunner, ender, run_blocking

# gRPC and threads do not survive a fork.
_CONTEXT = multiprocessing.get_context("spawn")
_START_SECONDS = 60.0
_READY = "ready"


class ProcessRunner(ThreadRunner):
    """Each thread has a process that runs its lots; another takes its place when it dies."""

    def __init__(self, handling: Handling, processes: int, finished: Finished) -> None:
        self._handling = handling
        self._local = threading.local()
        self._children: set[Child] = set()
        self._closing = False
        # What cannot run at all is said before any job is taken.
        self._spare = [Child(handling) for _ in range(processes)]
        self._children.update(self._spare)
        try:
            for child in self._spare:
                child.wait_ready()
        except BaseException:
            self._end_children()
            raise
        super().__init__(self._run_in_child, processes, finished)

    def close(self) -> None:
        self._closing = True
        super().close()
        self._end_children()

    def _run_in_child(self, lot: Lot) -> list[Outcome]:
        try:
            child = self._child()
        except SpooledError as error:
            return [_died(str(error))] * len(lot)
        end = ender(lot, lambda: child.kill(lot))
        for held in lot:
            held.end = end
        try:
            return child.run(lot)
        except (EOFError, OSError):
            self._local.child = None
            self._children.discard(child)
            reason = child.reason()
            if not self._closing and not all(held.cancelled for held in lot):
                logger.warning("the process of a handler %s", reason)
            return [_died(f"the process of the handler {reason}")] * len(lot)

    def _child(self) -> Child:
        child: Child | None = getattr(self._local, "child", None)
        if child is None:
            child = self._spare.pop() if self._spare else Child(self._handling)
            self._children.add(child)
            try:
                child.wait_ready()
            except BaseException:
                self._children.discard(child)
                raise
            self._local.child = child
        return child

    def _end_children(self) -> None:
        ended = list(self._children)
        for child in ended:
            child.end()
        for child in ended:
            child.reason()


class Child:
    """A process that runs lots, one after the other, as it is told over a pipe."""

    def __init__(self, handling: Handling) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process: BaseProcess = _CONTEXT.Process(
            target=_serve, args=(theirs, handling), name="spooled-handler", daemon=True
        )
        self._lock = threading.Lock()
        self._lot: Lot | None = None
        self._is_ready = False
        try:
            self._process.start()
        except Exception as error:
            # Whatever pickle says of a lambda or a local function.
            raise InvalidArgumentError(
                'executor="process" needs a handler that another process can import: a function '
                f"at the top of a module ({type(error).__name__}: {error})"
            ) from error
        theirs.close()

    def wait_ready(self) -> None:
        """InvalidArgumentError where the handler cannot be loaded there."""
        if self._is_ready:
            return
        try:
            self._is_ready = self._pipe.poll(_START_SECONDS) and self._pipe.recv() == _READY
            if self._is_ready:
                return
        except (EOFError, OSError):
            pass
        self.end()
        raise InvalidArgumentError(
            f"a process for the handler did not start: it {self.reason()}; is the handler at the "
            "top of a module that can be imported, and is the program's start under "
            '`if __name__ == "__main__":`?'
        )

    def run(self, lot: Lot) -> list[Outcome]:
        """EOFError or OSError where the process dies before it answers."""
        self._lot = lot
        try:
            self._pipe.send([held.job for held in lot])
            outcomes: list[Outcome] = self._pipe.recv()
            return outcomes
        finally:
            with self._lock:
                self._lot = None

    def kill(self, lot: Lot) -> None:
        """End it, if it is at this lot."""
        with self._lock:
            if self._lot is lot:
                self._process.kill()

    def end(self) -> None:
        """End it, whatever it is at."""
        self._process.kill()

    def reason(self) -> str:
        """How it ended, once it has."""
        self._process.join(5.0)
        code = self._process.exitcode
        with contextlib.suppress(ValueError, TypeError):
            if code is not None and code < 0:
                return f"was ended by {signal.Signals(-code).name}"
        return f"ended with status {code}"


def _serve(pipe: Connection, handling: Handling) -> None:
    """The child's life. Its parent says when it ends; with its parent's death it ends at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="spooled-parent", daemon=True).start()
    run = run_blocking(handling)
    pipe.send(_READY)
    while True:
        try:
            jobs: Any = pipe.recv()
        except (EOFError, OSError):
            return
        outcomes = [_sendable(outcome) for outcome in run(jobs)]
        try:
            pipe.send(outcomes)
        except (EOFError, OSError):
            return
        except Exception as error:  # noqa: BLE001 - a result may hold what pickle cannot take, in any way
            kind = type(error).__name__
            reason = f"the result cannot be kept: {kind}: it cannot leave the handler's process"
            pipe.send([_kept(outcome, reason) for outcome in outcomes])


def _end_with_parent() -> None:
    # Whatever the handler is at: nobody takes its outcome, and another worker gets the job.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)


def _sendable(outcome: Outcome) -> Outcome:
    return replace(outcome, exception=None) if isinstance(outcome, Failed) else outcome


def _kept(outcome: Outcome, reason: str) -> Outcome:
    return refused(reason) if isinstance(outcome, Completed) else outcome


def _died(reason: str) -> Failed:
    return Failed(f"ProcessDied: {reason}", retry=True, kind="ProcessDied")
