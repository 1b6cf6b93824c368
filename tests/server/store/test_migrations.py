"""Migrations are known by name and checksum; who only looks never migrates and never creates."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.administration.migrate import missing_migrations
from spooled_pipelines.server.store.migrations import MigrationMode
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.sql import Migration
from tests.support.cli import Done, command
from tests.support.postgres import Cluster
from tests.support.server_process import ServerProcess
from tests.support.store_kit import execute

OF_KIND = {
    "sqlite": "spooled_pipelines.server.store.sqlite.connections.database",
    "postgresql": "spooled_pipelines.server.store.postgres.connections.schema",
}
LATER, LATEST = (
    Migration(f"900{number}_{name}", f"ALTER TABLE jobs ADD COLUMN {name} integer;\n", 1, False)
    for number, name in ((1, "later"), (2, "latest"))
)


@pytest.fixture(params=OF_KIND)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def nothing(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of a place where there is no store yet."""
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.db'}"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.empty_database()


@pytest.fixture
def knows(kind: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """From here on the program knows these migrations as well."""
    module: Any = importlib.import_module(OF_KIND[kind])
    first = tuple(module.MIGRATIONS)
    return lambda *more: monkeypatch.setattr(module, "MIGRATIONS", [*first, *more])


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """`migrate` sets up the log of its process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def applied(url: str) -> list[str]:
    return [row[0] for row in execute(url, "SELECT name FROM migrations ORDER BY name")]


def is_empty(url: str) -> bool:
    if url.startswith("sqlite"):
        return not any(Path(url.removeprefix("sqlite:///")).parent.iterdir())
    with psycopg.connect(url) as connection:
        query = "SELECT to_regnamespace('spooled') IS NULL"
        return connection.execute(query.encode()).fetchone() == (True,)


def on(url: str, *arguments: str) -> Done:
    return command(*arguments, "--store", url)


LOOKS = [("check",), ("keys", "list"), ("keys", "revoke", "key_0123456789abcdef")]


@pytest.mark.parametrize("look", LOOKS)
def test_where_there_is_no_store_a_look_says_so_and_makes_none(
    nothing: str, look: tuple[str, ...]
) -> None:
    done = on(nothing, *look)
    assert (done.code, done.stdout) == (2, "")
    assert "there is no store at" in done.stderr
    assert "`spooled-pipelines migrate`" in done.stderr
    assert is_empty(nothing)


@pytest.mark.parametrize("look", [*LOOKS, ("keys", "create", "--role", "read", "--name", "x")])
def test_an_older_schema_is_named_and_stays_as_it_is(
    nothing: str, knows: Callable[..., None], look: tuple[str, ...]
) -> None:
    assert on(nothing, "migrate").code == 0
    before = applied(nothing)
    knows(LATER)
    done = on(nothing, *look)
    assert done.code == 2
    assert "older schema, which lacks 9001_later" in done.stderr
    assert applied(nothing) == before


def test_the_plan_is_the_sql_and_changes_nothing_until_it_is_run(
    nothing: str, knows: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    planned = on(nothing, "migrate", "--plan")
    assert "-- 0001_schema (checksum " in planned.stdout
    assert "CREATE TABLE jobs (" in planned.stdout
    assert is_empty(nothing)
    done = on(nothing, "migrate")
    assert "applied migration 0001_schema to " in done.stderr
    assert "nothing to do" in on(nothing, "migrate").stdout
    knows(LATER, LATEST)
    planned = on(nothing, "migrate", "--plan")
    assert [line[:10] for line in planned.stdout.splitlines() if line.startswith("-- ")] == [
        "-- 9001_la",
        "-- 9002_la",
    ]
    assert applied(nothing) == ["0001_schema"]
    done = on(nothing, "migrate", "--json")
    assert [line.split(" to ")[0][-10:] for line in done.stderr.splitlines()] == [
        "9001_later",
        "002_latest",
    ]
    assert applied(nothing) == ["0001_schema", "9001_later", "9002_latest"]
    assert on(nothing, "check").code == 0


def test_a_migration_that_was_merged_late_is_run(nothing: str, knows: Callable[..., None]) -> None:
    """Though one with a higher number was run before it."""
    knows(LATEST)
    on(nothing, "migrate")
    knows(LATER, LATEST)
    assert [step.name for step in missing_migrations(nothing)] == ["9001_later"]
    on(nothing, "migrate")
    assert applied(nothing) == ["0001_schema", "9001_later", "9002_latest"]


def test_a_migration_that_was_changed_after_it_was_run_is_found(
    nothing: str, knows: Callable[..., None]
) -> None:
    knows(LATER)
    on(nothing, "migrate")
    knows(LATER._replace(statements=LATER.statements + "-- A comment is not a change.\n"))
    assert on(nothing, "check").code == 0
    knows(LATER._replace(statements="ALTER TABLE jobs ADD COLUMN other integer;\n"))
    for done in (on(nothing, "check"), on(nothing, "migrate")):
        assert done.code == 2
        assert "was made with another 9001_later than this program's" in done.stderr


def test_what_is_missing_is_named_by_check_and_by_the_server(nothing: str) -> None:
    on(nothing, "migrate")
    execute(nothing, "DROP INDEX jobs_dead")
    execute(nothing, "DROP TABLE workers")
    done = on(nothing, "check")
    assert done.code == 1
    assert done.stdout.splitlines() == [
        "the index jobs_dead is missing",
        "the table workers is missing",
        "the index workers_of_queue is missing",
        "the index workers_listed is missing",
    ]
    with pytest.raises(StoreUnavailableError, match="lacks the index jobs_dead, the table workers"):
        asyncio.run(open_store(nothing, SystemClock()).open(lambda _: None))


async def test_a_first_key_makes_the_store_and_a_server_may_leave_it_to_migrate(
    nothing: str, tmp_path: Path
) -> None:
    store = open_store(nothing, SystemClock(), migrate=MigrationMode.REFUSE)
    with pytest.raises(StoreUnavailableError, match="there is no store"):
        await store.open(lambda _: None)
    server = ServerProcess(tmp_path / "log", "--store", nothing, "--migrate", "refuse")
    with pytest.raises(AssertionError, match="there is no store"):
        server.start()
    # A server of its own log is beside the file that there is not.
    server.log.unlink()
    assert is_empty(nothing)
    done = await asyncio.to_thread(on, nothing, "keys", "create", "--role", "read", "--name", "x")
    assert done.code == 0, done.stderr
    with server:
        assert server.running
