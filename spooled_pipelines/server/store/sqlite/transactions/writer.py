"""The one thread that writes: it commits together whatever has gathered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

from spooled_pipelines.server.core.errors import MovedStoreError, RefusedError
from spooled_pipelines.server.core.jobs.records import StoreLoad
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.core.runtime.notifier import CommitEvent, publish
from spooled_pipelines.server.store.sqlite.connections.database import BUSY_SECONDS
from spooled_pipelines.server.store.sqlite.connections.disk_errors import FaultLog, fault_of
from spooled_pipelines.server.store.sqlite.connections.file_identity import FileIdentity
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.transactions.transaction import Transaction

T = TypeVar("T")
_log = logging.getLogger(__name__)
# Longer, and the first caller would wait for the others' sake.
_GATHER_SECONDS = 0.05
# Those that are many rows of one upload are gathered for longer, as long as nothing else waits:
# an index of keys has them on all its pages, and each page is written once for each commit.
_GATHER_ROWS_SECONDS = 0.2
# Operations that are done as one: what one statement takes in without holding up the others.
_ALIKE_MAX = 500


class Batchable(NamedTuple):
    """An operation that can be done together with others whose `what` is the same.

    `together` gets the items of all of them, and returns a result for each.
    """

    together: Callable[[Transaction, Sequence[Any]], Sequence[Any]]
    what: Hashable
    item: Any


class _Request(NamedTuple):
    operation: Callable[[Transaction], Any]
    answer: asyncio.Future[Any]
    alike: Batchable | None = None
    # Whether it may wait for more of the same to be committed with it.
    is_patient: bool = False


class _Gathered(NamedTuple):
    """Requests that are done as one, and the one behind them; `more`: others may come."""

    alike: list[_Request]
    following: _Request | None
    more: bool


class _Answer(NamedTuple):
    answer: asyncio.Future[Any]
    result: Any
    error: Exception | None


class Writer:
    """Runs operations in the order they come, each whole or not at all; answers after the commit.

    While it commits, the next ones gather: the busier the server, the more share one sync.
    """

    def __init__(
        self,
        transaction: Transaction,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        on_commit: Callable[[CommitEvent], None],
        faults: FaultLog,
        file: FileIdentity,
    ) -> None:
        self._file = file
        self._transaction = transaction
        self._connection = transaction.connection
        self._clock = clock
        self._loop = loop
        self._on_commit = on_commit
        self._faults = faults
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._closed = False
        self._committing = False
        self._truncates = False
        self._thread = threading.Thread(target=self._run, name="spooled-writer", daemon=True)
        self._thread.start()

    def submit(
        self,
        operation: Callable[[Transaction], T],
        alike: Batchable | None = None,
        *,
        is_patient: bool = False,
    ) -> asyncio.Future[T]:
        """Return the operation's result, once it is durable.

        With others that are `alike` and gathered meanwhile it is done as one, by itself where that
        fails. One that `is_patient` is one of many, of which the sender awaits the last.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        if self._closed:
            answer.set_exception(RefusedError("UNAVAILABLE", "the store is closed"))
        else:
            self._requests.put(_Request(operation, answer, alike, is_patient))
        return answer

    def load(self) -> StoreLoad:
        """Return whether it commits, and how many operations wait."""
        return StoreLoad(int(self._committing), 1, self._requests.qsize())

    def truncate_log(self) -> None:
        """Soon empty the write-ahead log, which keeps what was pruned: once nothing waits."""
        self._truncates = True

    async def close(self) -> None:
        """Commit what was submitted, then end the thread."""
        if not self._closed:
            self._closed = True
            self._requests.put(None)
        # Not in a thread: while the interpreter ends, as at the exit of a notebook's kernel, none
        # can be started.
        self._thread.join()
        await asyncio.sleep(0)

    def _run(self) -> None:
        more = True
        while more:
            request = self._requests.get()
            if request is None:
                return
            self._committing = True
            more = self._commit_group(request)
            self._committing = False
            if self._truncates and self._requests.empty():
                self._truncate_log()

    def _truncate_log(self) -> None:
        """Empty it, unless somebody reads what is in it: then after the next commit."""
        # What fails here fails at the next commit as well, and is said there.
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA busy_timeout = 0")
            ((is_busy, _, _),) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._truncates = bool(is_busy)
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")

    def _commit_group(self, first: _Request) -> bool:
        answers: list[_Answer] = []
        asked: list[asyncio.Future[Any]] = [first.answer]
        changes = CommitEvent()
        more = True
        began, gathers_ms = self._clock.now(), _GATHER_ROWS_SECONDS * 1000
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            step = self._clock.step
            if step:
                self._shift_leases(step, changes)
            request: _Request | None = first
            while request is not None:
                if not request.is_patient:
                    gathers_ms = _GATHER_SECONDS * 1000
                gathered = self._gather(request)
                asked += [one.answer for one in gathered.alike[1:]]
                answers += self._perform_alike(gathered.alike, changes)
                request, more = gathered.following, gathered.more
                if request is None and more and self._clock.now() < began + gathers_ms:
                    request, more = self._waiting()
                if request is not None:
                    asked.append(request.answer)
            self._transaction.numbers.keep()
            commit_began = time.perf_counter()
            self._connection.execute("COMMIT")
            if step:
                self._clock.forget_step(step)
            # Not before: it may go at any moment, and only then is it answered.
            self._file.check()
            changes.commit_seconds = time.perf_counter() - commit_began
            self._faults.works()
        except (sqlite3.Error, MovedStoreError) as error:
            self._roll_back()
            refusal = self._faults.refusal(error)
            answers = [_Answer(answer, None, refusal) for answer in asked]
            changes = CommitEvent()
        self._loop.call_soon_threadsafe(self._deliver, answers, changes)
        return more

    def _shift_leases(self, step: int, changes: CommitEvent) -> None:
        """Let leases last as long as they were given for, though the clock was set."""
        self._connection.execute(SQL["shift_leases"], (step,))
        changes.due_at(self._clock.now())
        _log.warning("the clock was set by %g s; leases were moved along with it", step / 1000)

    def _waiting(self) -> tuple[_Request | None, bool]:
        """Return the next one, if it is there; False: there will be no more."""
        try:
            request = self._requests.get_nowait()
        except queue.Empty:
            return None, True
        return request, request is not None

    def _gather(self, first: _Request) -> _Gathered:
        alike = [first]
        while first.alike is not None and len(alike) < _ALIKE_MAX:
            request, more = self._waiting()
            if request is None or request.alike is None or request.alike.what != first.alike.what:
                return _Gathered(alike, request, more)
            alike.append(request)
        return _Gathered(alike, None, True)

    def _perform_alike(self, requests: list[_Request], changes: CommitEvent) -> list[_Answer]:
        items = [request.alike.item for request in requests if request.alike is not None]
        if len(requests) > 1 and requests[0].alike is not None:
            together = requests[0].alike.together
            whole = requests[0]._replace(operation=lambda tx: together(tx, items))
            done = self._perform(whole, changes)
            if done.error is None:
                results = zip(requests, done.result, strict=True)
                return [_Answer(request.answer, result, None) for request, result in results]
        # One alone, or one that spoiled it: the others must not suffer from that.
        return [self._perform(request, changes) for request in requests]

    def _perform(self, request: _Request, changes: CommitEvent) -> _Answer:
        transaction = self._transaction
        self._connection.execute("SAVEPOINT operation")
        try:
            transaction.begin_operation(self._clock.now())
            result = request.operation(transaction)
            transaction.end_operation()
        # Whatever fails is that caller's alone; the others of the group are committed.
        except Exception as error:
            if fault_of(error) is not None:
                # The file's fault: SQLite may have rolled back all of the group already.
                raise
            self._connection.execute("ROLLBACK TO operation")
            self._connection.execute("RELEASE operation")
            transaction.names.forget()
            return _Answer(request.answer, None, error)
        self._connection.execute("RELEASE operation")
        changes.merge(transaction.changes)
        return _Answer(request.answer, result, None)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            # On a disk that fails this may be said to fail too; the transaction is over then.
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
        self._transaction.names.forget()
        self._transaction.numbers.rolled_back()

    def _deliver(self, answers: list[_Answer], changes: CommitEvent) -> None:
        for answer, result, error in answers:
            if answer.done():
                continue
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)
        publish(self._on_commit, changes)
