"""A server with a store and a proxy before it, on which faults strike while a table is enqueued."""

from __future__ import annotations

import asyncio
import random
import resource
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from spooled_pipelines import AsyncSpooledClient, connect
from spooled_pipelines.errors import SpooledError
from spooled_pipelines.rpc.retry import RetryPolicy
from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.jobs.records import CounterMismatch
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.types import BatchStats
from spooled_pipelines.wire.well_known import Struct
from tests.support import forked, programs
from tests.support.both import with_asyncio_face
from tests.support.proxy import Proxy
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from typing_extensions import Self

ONCE = RetryPolicy(max_attempts=1)
_CHECKED_PAYLOADS = 200
_TOLD = ["row", "key", "job_id"]
_PARTS = 3

_CLIENT = """
import sys
from pyarrow.parquet import read_table
from tests.support.proof.fault_harness import Way, called

address, key, path, queue, in_parts, column = sys.argv[1:]
way = Way(bool(in_parts), column or None, False)
called({"address": address, "api_key": key}, read_table(path) if in_parts else path, queue, way)
"""


class Way(NamedTuple):
    """How a table is sent: at once or in parts, with a key or without, by which client."""

    in_parts: bool
    key: str | None
    asynchronous: bool


class Told(NamedTuple):
    """What a call said of its rows."""

    rows: int | None
    created: int | None
    duplicates: int | None
    rejected: int | None
    ledger: pa.Table
    stats: BatchStats


def called(settings: dict[str, Any], data: Any, queue: str, way: Way) -> Told:
    """Send a table."""
    if way.asynchronous:
        return asyncio.run(_with_asyncio(settings, data, queue, way))
    with connect(**settings) as client:
        return asyncio.run(_send(with_asyncio_face(client), data, queue, way))


async def _with_asyncio(settings: dict[str, Any], data: Any, queue: str, way: Way) -> Told:
    async with AsyncSpooledClient(**settings) as client:
        return await _send(client, data, queue, way)


async def _send(client: AsyncSpooledClient, data: Any, queue: str, way: Way) -> Told:
    if not way.in_parts:
        batch = await client.enqueue_batch(data, queue, key=way.key)
        ledger, stats = batch.ledger.select(_TOLD), await batch.stats()
        return Told(batch.rows, batch.created, batch.duplicates, batch.rejected, ledger, stats)
    opened = await client.open_batch("in parts", queue, key=way.key)
    ledgers = []
    for first in range(0, data.num_rows, data.num_rows // _PARTS):
        part = await opened.add(f"from {first}", data.slice(first, data.num_rows // _PARTS))
        rows = pc.add(part.ledger["row"], first)
        ledgers.append(part.ledger.select(_TOLD).set_column(0, "row", rows))
    batch = await opened.seal(len(ledgers))
    ledger, stats = pa.concat_tables(ledgers), await batch.stats()
    return Told(batch.rows, batch.created, batch.duplicates, batch.rejected, ledger, stats)


def table_of(rows: int) -> pa.Table:
    """No two rows are the same, and no two are as long."""
    chance = random.Random(rows)
    return pa.table(
        {
            "n": pa.array(range(rows), pa.int64()),
            "text": [f"row {n} " + "x" * chance.randrange(120) for n in range(rows)],
        }
    )


class StoredJob(NamedTuple):
    key: str
    payload: bytes


class SqliteFile:
    """What a SQLite file holds, and what may befall it."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self._path = path

    def jobs(self, queue: str) -> dict[str, StoredJob]:
        """By their ids."""
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as file:
            prefix = file.execute("SELECT value FROM meta WHERE name = 'id_prefix'").fetchone()[0]
            rows = file.execute(
                "SELECT seq, idempotency_key, payload FROM jobs "
                "WHERE queue = (SELECT id FROM queues WHERE name = ?)",
                (queue,),
            )
            return {ids.job_id(prefix, n): StoredJob(key.hex(), data) for n, key, data in rows}

    def busy(self, seconds: float) -> None:
        """Another program has it for writing."""
        with closing(sqlite3.connect(self._path, isolation_level=None, timeout=30)) as file:
            file.execute("BEGIN IMMEDIATE")
            threading.Event().wait(seconds)
            file.execute("ROLLBACK")

    def full(self, server: ServerProcess, seconds: float) -> None:
        """No file of the server's may grow."""
        files = self._path.parent.glob(self._path.name + "*")
        size = max(file.stat().st_size for file in files)
        _, most = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, most))
        threading.Event().wait(seconds)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (most, most))


_FULL_DISK = """
CREATE SEQUENCE spooled.faults START 2;
CREATE FUNCTION spooled.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- A sequence's number is not taken back with the transaction: it fails once.
    IF nextval('spooled.faults') = 1 THEN
        RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER full_disk AFTER INSERT ON spooled.jobs
    FOR EACH STATEMENT EXECUTE FUNCTION spooled.full_disk();
"""


class PostgresDatabase:
    """What a PostgreSQL database holds, and what may befall it."""

    def __init__(self, url: str) -> None:
        self.url = url
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_FULL_DISK)

    def jobs(self, queue: str) -> dict[str, StoredJob]:
        """By their ids."""
        with psycopg.connect(self.url) as connection:
            row = connection.execute("SELECT id_prefix FROM spooled.store").fetchone()
            assert row is not None
            rows = connection.execute(
                "SELECT seq, idempotency_key, payload FROM spooled.jobs "
                "WHERE queue = (SELECT id FROM spooled.queues WHERE name = %s)",
                (queue,),
            )
            # A key of hexadecimal digits is kept as an "h" and its bytes.
            return {
                ids.job_id(row[0], n): StoredJob(bytes(key)[1:].hex(), bytes(data))
                for n, key, data in rows
            }

    def busy(self, seconds: float) -> None:
        """Another session has locked the jobs."""
        with psycopg.connect(self.url) as connection:
            connection.execute("LOCK TABLE spooled.jobs IN ACCESS EXCLUSIVE MODE")
            threading.Event().wait(seconds)
            connection.rollback()

    def full(self, _server: ServerProcess, _seconds: float) -> None:
        """The next statement that inserts finds no room on the disk."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SELECT setval('spooled.faults', 1, false)")


@dataclass
class Struck:
    """What came of one fault.

    Attributes:
        seed: from which fault, place and client follow.
        fault: its name.
        felt: whether it struck while the table was on its way.
        survived: whether the first call went on by itself.
        wrong: what was not as promised.
    """

    seed: int
    fault: str
    felt: bool
    survived: bool
    wrong: str = ""


class FaultHarness:
    """Strikes a table that is being enqueued, makes the same call again, and counts the jobs."""

    def __init__(self, store: SqliteFile | PostgresDatabase, folder: Path, *arguments: str) -> None:
        self.store = store
        self.plain = bool(arguments)
        self._folder = folder
        # The later --store wins; the first names the log.
        name = folder / "server"
        self.server = ServerProcess(name, "--store", store.url, *arguments)
        self.client: forked.Popen | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.server)
        self.proxy = self._stack.enter_context(Proxy(self.server.address))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def strike(self, seed: int, rows: int) -> Struck:
        """Fault number `seed`, somewhere within so many rows."""
        name = list(FAULTS)[seed % len(FAULTS)]
        chance = random.Random(seed)
        table, queue = table_of(rows), f"faults-{seed}"
        struck = Struck(seed, name, felt=False, survived=False)
        first = None
        size = self._size(table)
        over = threading.Event()

        def fall() -> None:
            struck.felt = True
            FAULTS[name](self, chance)
            over.set()

        self.proxy.strike(int(size * chance.uniform(0.02, 0.95)), fall)
        way, policy = _drawn_way(chance), chance.choice([RetryPolicy(), ONCE])
        if name == "client killed":
            self._doomed(table, queue, way)
        else:
            first = self._first(table, queue, policy, way)
            struck.survived = first is not None
        # A caller who is told that the server is away calls again when it is back.
        assert not struck.felt or over.wait(30)
        try:
            again = self._call(table, queue, RetryPolicy(), way)
            self._is_whole(again, queue, rows, struck.survived)
            if first is not None:
                assert first.ledger == again.ledger
                # A plain server cannot say whether the try before made the job.
                assert self.plain or first.created == rows, f"{first.created} of {rows} created"
        except (AssertionError, SpooledError) as error:
            struck.wrong = f"seed {seed}, {name}, {way}: {error!r}"
        return struck

    def mismatches(self) -> list[CounterMismatch]:
        """Stop the server; every counter that a recount finds wrong."""
        self.server.stop()
        return asyncio.run(_recount(self.store.url))

    def _size(self, table: pa.Table) -> int:
        """Bytes that travel for this table, as this client sends it."""
        before = self.proxy.sent
        self._call(table, f"size-{table.num_rows}", RetryPolicy(), Way(False, None, False))
        size = self.proxy.sent - before
        self._size = lambda table, size=size, rows=table.num_rows: size * table.num_rows // rows  # type: ignore[method-assign]
        return size

    def _first(self, table: pa.Table, queue: str, policy: RetryPolicy, way: Way) -> Told | None:
        """What the call returned, if it went on by itself."""
        try:
            return self._call(table, queue, policy, way)
        except SpooledError as error:
            if error.details.get("batch_id") and "Repeat the same call to resume" not in str(error):
                raise
            return None

    def _doomed(self, table: pa.Table, queue: str, way: Way) -> None:
        path = self._folder / f"{queue}.parquet"
        pyarrow.parquet.write_table(table, path)
        command = [sys.executable, "-c", _CLIENT, self.proxy.address, self.server.api_key]
        command += [str(path), queue, "yes" if way.in_parts else "", way.key or ""]
        environment = programs.environment()
        self.client = forked.Popen(command, stderr=subprocess.DEVNULL, env=environment)
        self.client.wait()

    def _call(self, table: pa.Table, queue: str, policy: RetryPolicy, way: Way) -> Told:
        settings = {"address": self.proxy.address, "api_key": self.server.api_key, "retry": policy}
        return called(settings, table, queue, way)

    def _is_whole(self, told: Told, queue: str, rows: int, survived: bool) -> None:
        assert (told.rows, told.rejected) == (rows, 0)
        assert (told.created or 0) + (told.duplicates or 0) == rows
        if survived:
            assert told.created == 0, f"{told.created} rows were missing after a call that ended"
        ledger = told.ledger
        assert ledger["row"].to_pylist() == list(range(rows))
        keys = dict(zip(ledger["job_id"].to_pylist(), ledger["key"].to_pylist(), strict=True))
        stored = self.store.jobs(queue)
        missing, doubled = rows - len(keys.keys() & stored.keys()), len(stored) - rows
        assert (missing, doubled) == (0, 0), f"{missing} rows lost, {doubled} jobs too many"
        assert keys == {job_id: job.key for job_id, job in stored.items()}
        assert told.stats.total == rows
        assert self.plain or told.stats.sealed
        ids = ledger["job_id"].to_pylist()
        for row in range(0, rows, max(rows // _CHECKED_PAYLOADS, 1)):
            assert Struct.FromString(stored[ids[row]].payload)["n"] == row


def _drawn_way(chance: random.Random) -> Way:
    return Way(chance.random() < 0.5, chance.choice([None, "n"]), chance.random() < 0.5)


async def _recount(url: str) -> list[CounterMismatch]:
    store = open_store(url, SystemClock())
    await store.open(lambda _: None)
    try:
        return await store.recount()
    finally:
        await store.close()


def _client_killed(harness: FaultHarness, _: random.Random) -> None:
    assert harness.client is not None
    harness.client.kill()
    harness.client.wait()


def _server_killed(harness: FaultHarness, _: random.Random) -> None:
    harness.server.kill()
    harness.server.restart()


def _reset(harness: FaultHarness, _: random.Random) -> None:
    harness.proxy.cut()


def _stalled(harness: FaultHarness, chance: random.Random) -> None:
    harness.proxy.hold()
    _later(chance.uniform(0.1, 1.5), harness.proxy.release)


def _half_open(harness: FaultHarness, _: random.Random) -> None:
    harness.proxy.silence()


def _answer_lost(harness: FaultHarness, chance: random.Random) -> None:
    harness.proxy.lose_answers()
    # Meanwhile what was sent is committed.
    _later(chance.uniform(0.1, 0.5), harness.proxy.cut)


def _busy(harness: FaultHarness, chance: random.Random) -> None:
    threading.Thread(target=harness.store.busy, args=(chance.uniform(0.1, 1.5),)).start()


def _full(harness: FaultHarness, chance: random.Random) -> None:
    seconds = chance.uniform(0.05, 0.5)
    threading.Thread(target=harness.store.full, args=(harness.server, seconds)).start()


def _later(seconds: float, action: Callable[[], None]) -> None:
    threading.Timer(seconds, action).start()


FAULTS: dict[str, Callable[[FaultHarness, random.Random], None]] = {
    "client killed": _client_killed,
    "server killed": _server_killed,
    "connection reset": _reset,
    "stalled": _stalled,
    "half open": _half_open,
    "answer lost": _answer_lost,
    "database busy": _busy,
    "disk full": _full,
}


def summary(struck: list[Struck]) -> str:
    """How many of each fault struck, and how many calls went on by themselves."""
    felt = Counter(one.fault for one in struck if one.felt)
    alone = Counter(one.fault for one in struck if one.survived)
    each = [f"{name} {felt[name]} ({alone[name]} went on alone)" for name in FAULTS]
    return f"{len(struck)} faults: " + ", ".join(each)


@contextmanager
def harness_over(kind: str, folder: Path, database: Callable[[], str]) -> Iterator[FaultHarness]:
    """`kind` is "sqlite", "postgresql" or "plain"."""
    store: SqliteFile | PostgresDatabase = (
        PostgresDatabase(database()) if kind == "postgresql" else SqliteFile(folder / "jobs.db")
    )
    arguments = ("--no-batch-extension",) if kind == "plain" else ()
    with FaultHarness(store, folder, *arguments) as harness:
        yield harness
