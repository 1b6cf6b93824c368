"""Running handlers in processes of their own: one that crashes fails one job, and no more."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from spooled_pipelines.errors import InvalidArgumentError, SpooledError
from spooled_pipelines.types import Job
from spooled_pipelines.worker.clock import Clock
from spooled_pipelines.worker.handlers.executors import (
    JobGroup,
    OnFinished,
    ThreadExecutor,
    blocking_call,
    end_copy,
    when_all_cancelled,
)
from spooled_pipelines.worker.handlers.handler import BoundHandler
from spooled_pipelines.worker.handlers.running_log import RunningLog
from spooled_pipelines.worker.jobs.context import JobContext
from spooled_pipelines.worker.jobs.leased_chunk import ChunkJobContext, LeasedChunk
from spooled_pipelines.worker.jobs.outcome import Failed, Outcome, outcome_of_exception
from spooled_pipelines.worker.log import logger

# gRPC and threads do not survive a fork.
_CONTEXT = multiprocessing.get_context("spawn")
_START_SECONDS = 60.0
_READY = "ready"


class ProcessExecutor(ThreadExecutor):
    """Threads that each have a process to run their groups, and another when that dies."""

    def __init__(
        self,
        clock: Clock,
        handler: BoundHandler,
        processes: int,
        on_finished: OnFinished,
        log: RunningLog | None = None,
    ) -> None:
        self._handler = handler
        self._local = threading.local()
        self._children: set[HandlerProcess] = set()
        self._closing = False
        # A handler that cannot run at all is refused before any job is taken.
        self._spare = [HandlerProcess(handler) for _ in range(processes)]
        self._children.update(self._spare)
        try:
            for child in self._spare:
                child.wait_ready()
        except BaseException:
            self._end_children()
            raise
        super().__init__(clock, self._run_in_child, processes, on_finished, log)

    def close(self) -> None:
        self._closing = True
        super().close()
        self._end_children()

    def _run_in_child(self, group: JobGroup) -> list[Outcome]:
        try:
            child = self._child()
        except SpooledError as error:
            return [_died(str(error))] * len(group)
        interrupt = when_all_cancelled(group, lambda: child.kill(group))
        for leased in group:
            leased.interrupt = interrupt
        try:
            return child.run(group)
        except Exception:  # noqa: BLE001 - the process died, or a handler wrote into its pipe
            self._local.child = None
            self._children.discard(child)
            child.end()
            reason = child.reason()
            if not self._closing and not all(leased.cancelled for leased in group):
                logger.warning("the process of a handler %s", reason)
            died = _died(f"the process of the handler {reason}", child.exit_code, len(group) - 1)
            return [died] * len(group)

    def _child(self) -> HandlerProcess:
        child: HandlerProcess | None = getattr(self._local, "child", None)
        if child is None:
            child = self._spare.pop() if self._spare else HandlerProcess(self._handler)
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


class HandlerProcess:
    """A process that runs groups of jobs, one after the other, as it is told over a pipe."""

    def __init__(self, handler: BoundHandler) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process: BaseProcess = _CONTEXT.Process(
            target=_serve, args=(theirs, handler), name="spooled-handler", daemon=True
        )
        self._lock = threading.Lock()
        self._group: JobGroup | None = None
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
        """Wait until the process has loaded the handler.

        Raises:
            InvalidArgumentError: it cannot be loaded there.
        """
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
            f"a process for the handler did not start: it {self.reason()}. The handler must be at "
            "the top of a module that can be imported, and the program's start under "
            '`if __name__ == "__main__":`'
        )

    def run(self, group: JobGroup) -> list[Outcome]:
        """Run the group and return its outcomes.

        Raises:
            EOFError, OSError: the process died before it answered.
        """
        self._group = group
        runs_here = [leased.context.run_id for leased in group]
        outcomes: list[Outcome]
        try:
            self._pipe.send(_packed([leased.context for leased in group]))
            while True:
                runs, outcomes = self._pipe.recv()
                if runs == runs_here:
                    return outcomes
                # A handler may write there, and so may what it forked.
                logger.warning("an outcome of other jobs came from the process of a handler")
        finally:
            with self._lock:
                self._group = None

    def kill(self, group: JobGroup) -> None:
        """Kill the process, if it runs this group."""
        with self._lock:
            if self._group is group:
                self._process.kill()

    def end(self) -> None:
        """Kill the process, whatever it runs."""
        self._process.kill()

    @property
    def exit_code(self) -> int | None:
        """How the process ended; None while it runs."""
        return self._process.exitcode

    def reason(self) -> str:
        """Return how the process ended, once it has."""
        self._process.join(5.0)
        return describe_exit(self.exit_code)


def describe_exit(code: int | None) -> str:
    """Return how a process ended, as in "it was ended by SIGKILL"; `code` as Python has it."""
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with status {code}"


def _packed(contexts: Iterable[JobContext]) -> list[Job | LeasedChunk]:
    """Return the jobs as they are sent: those that stand together in a chunk as a part of it."""
    packed: list[Job | LeasedChunk] = []
    for chunk, contexts_of_chunk in groupby(contexts, _chunk_of):
        together = list(contexts_of_chunk)
        if chunk is None:
            packed += [context.job for context in together]
        else:
            places = [each.index for each in together if isinstance(each, ChunkJobContext)]
            packed.append(chunk.part(places))
    return packed


def _chunk_of(context: JobContext) -> LeasedChunk | None:
    return context.chunk if isinstance(context, ChunkJobContext) else None


def _unpacked(packed: Iterable[Job | LeasedChunk]) -> Iterator[JobContext]:
    for each in packed:
        if isinstance(each, LeasedChunk):
            yield from (ChunkJobContext(each, index) for index in range(len(each)))
        else:
            yield JobContext(each)


def _serve(pipe: Connection, handler: BoundHandler) -> None:
    """Serve the parent until it closes the pipe; at the parent's death, end at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="spooled-parent", daemon=True).start()
    run = blocking_call(handler)
    process = os.getpid()
    pipe.send(_READY)
    while True:
        try:
            contexts = list(_unpacked(pipe.recv()))
        except (EOFError, OSError):
            return
        try:
            outcomes = run(contexts)
        except BaseException as error:  # noqa: BLE001 - whatever happens, these jobs are settled
            outcomes = [outcome_of_exception(error, handler.rules)] * len(contexts)
        end_copy(process)
        try:
            runs = [context.run_id for context in contexts]
            pipe.send((runs, [_sendable(outcome) for outcome in outcomes]))
        except (EOFError, OSError):
            return


def _end_with_parent() -> None:
    # Even in the middle of a handler: nobody takes its outcome, and another worker gets the job.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)


def _sendable(outcome: Outcome) -> Outcome:
    return replace(outcome, exception=None) if isinstance(outcome, Failed) else outcome


def _died(reason: str, exit_code: int | None = None, others: int = 0) -> Failed:
    kind = "ProcessDied"
    error = f"{kind}: {reason}"
    return Failed(error, retry=True, error_type=kind, exit_code=exit_code, others=others)
