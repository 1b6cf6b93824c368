"""The PostgreSQL of a run of tests, with a database for each test, copied from a template."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import itertools
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.postgres.store import PostgresStore
from tests.support import programs, run
from tests.support.postgres_process import START_SECONDS
from tests.support.waiting import eventually

_TEMPLATE = "template_spooled"
# Those of a store but for what makes it one.
_TABLES_WITH_DATA = """
SELECT tablename FROM pg_tables
WHERE schemaname = 'spooled' AND tablename NOT IN ('migrations', 'store')
"""


_Marks = list[tuple[object, ...]]


class Cluster:
    """A running PostgreSQL: `database()` makes an empty store and returns its URL."""

    def __init__(self, data: Path) -> None:
        self._data = data
        # Other processes make theirs in the same one.
        self._names = (f"test_{os.getpid()}_{number}" for number in itertools.count(1))
        self._spare: list[tuple[str, _Marks]] = []

    def make_template(self) -> None:
        """Make what `database()` copies."""
        self.execute(f"CREATE DATABASE {_TEMPLATE}")
        # In a thread of its own: where a browser was started, an event loop runs in this one.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, _open_once(self.url(_TEMPLATE))).result()

    def url(self, database: str) -> str:
        return f"postgresql://postgres:@/{database}?host={self._data}"

    def execute(self, statement: str) -> None:
        """A statement of the superuser's."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def empty_database(self) -> str:
        """The URL of a database that was never used."""
        name = next(self._names)
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def database(self) -> str:
        """The URL of an empty store."""
        name = next(self._names)
        self.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        return self.url(name)

    def emptied(self, url: str, was: _Marks | None = None) -> bool:
        """Make the store at this URL an empty one again; whether it is as it ``was`` otherwise.

        It takes a hundredth of what a database of its own does, and, with the little that a test
        leaves, of what TRUNCATE does.
        """
        with psycopg.connect(url) as connection:
            # Sessions that still hold rows are not waited for.
            connection.execute("SET lock_timeout = '2s'")
            # All of them go, so that nothing refers to what is not there.
            connection.execute("SET session_replication_role = replica")
            for (name,) in connection.execute(_TABLES_WITH_DATA).fetchall():
                connection.execute(
                    sql.SQL("DELETE FROM {}").format(sql.Identifier("spooled", name))
                )
            connection.execute("UPDATE spooled.store SET first_place = 1")
            return was is None or _marks(connection) == was

    @contextmanager
    def lent(self) -> Iterator[str]:
        """The URL of an empty store, which another test has when this one is through with it."""
        if not self._spare:
            url = self.database()
            with psycopg.connect(url) as connection:
                self._spare.append((url, _marks(connection)))
        url, was = self._spare.pop()
        yield url
        # One that a test has made its own, or still uses, is left to it.
        with suppress(psycopg.Error):
            if self.emptied(url, was):
                self._spare.append((url, was))


def _marks(connection: psycopg.Connection) -> _Marks:
    """What `emptied` leaves as it is."""
    query = "SELECT 'store', to_jsonb(s) - 'origin' FROM spooled.store s UNION ALL "
    query += "SELECT 'migration', to_jsonb(m) FROM spooled.migrations m ORDER BY 1, 2"
    return connection.execute(query.encode()).fetchall()


class OwnCluster(Cluster):
    """One that is a test's own, which may stop it and start it again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "data")
        # In a session of its own: a Ctrl-C in the terminal is for the tests to handle.
        self._process = subprocess.Popen(
            programs.command("postgres_process", str(folder)),
            env=programs.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._wait_until_ready()
        self.make_template()

    def stop_at_once(self) -> None:
        """As a crash would, but for the operating system."""
        postmaster = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        process = psutil.Process(postmaster)
        process.send_signal(signal.SIGQUIT)
        process.wait(60)

    def start(self) -> None:
        """Start again after `stop_at_once`; returns when it takes connections."""
        assert self._process.stdin is not None
        self._process.stdin.write("start\n")
        self._process.stdin.flush()
        self._wait_until_ready()

    def close(self) -> None:
        """End it, and wait until it has."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.read()
        self._process.stdout.close()
        assert self._process.wait(30) == 0

    def _wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"


async def _open_once(url: str) -> None:
    store = PostgresStore(url, SystemClock())
    await store.open(lambda _: None)
    await store.close()


@functools.cache
def shared_cluster() -> Cluster:
    """Return the one PostgreSQL of this run of tests, started by the first that asks for it."""
    folder = run.folder() / "postgres"
    folder.mkdir(exist_ok=True)
    cluster = Cluster(folder / "data")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            # The shell ends at once: what it leaves behind is nobody's child, and its time on the
            # processors nobody's cost.
            program = programs.command("postgres_process", str(folder), str(run.owner()))
            subprocess.run(
                ["sh", "-c", 'exec "$@" >>"$0" 2>&1 &', str(folder / "log"), *program],
                env=programs.environment(),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                check=True,
            )
            eventually((folder / "ready").exists, START_SECONDS)
            cluster.make_template()
    return cluster


def end_shared_cluster() -> float:
    """End it, where one was started, and return the seconds that it took of a processor."""
    ready = run.folder() / "postgres" / "ready"
    if not ready.exists():
        return 0.0
    process = psutil.Process(int(ready.read_text()))
    postmaster = psutil.Process(
        int((ready.parent / "data" / "postmaster.pid").read_text().splitlines()[0])
    )
    used = sum(sum(one.cpu_times()[:4]) for one in (process, postmaster))
    process.terminate()
    process.wait(60)
    return used


@contextmanager
def empty_store(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty store, "sqlite" or "postgresql"."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'jobs.db'}"
        return
    with shared_cluster().lent() as url:
        yield url


@contextmanager
def running_cluster() -> Iterator[OwnCluster]:
    """One of the caller's own, for the time of the context."""
    with tempfile.TemporaryDirectory(prefix="spooled-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # PostgreSQL runs as another user where the tests run as root.
        folder.chmod(0o755)
        cluster = OwnCluster(folder)
        try:
            yield cluster
        finally:
            cluster.close()
