"""Several programs on one file, with no server to start: one serves it, until another has to."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines import connect, errors
from spooled_pipelines.server.embedded import endpoint
from tests.support import forked, programs
from tests.support.sampling import one_of
from tests.support.waiting import eventually

ROWS = 20_000


class Member:
    """A process that runs `tests.support.file_member`."""

    def __init__(self, path: Path | str, folder: Path) -> None:
        self._process = forked.Popen(
            programs.command("file_member", f"embedded:{path}"),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=programs.environment(PYTHONWARNINGS="error"),
        )
        self.pid = self._process.pid

    def answer(self) -> dict[str, Any]:
        """What it says next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "it ended without a word"
        return json.loads(line)

    def begin(self, *command: object) -> None:
        """Returns when it has begun."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        assert self.answer() == {"begins": command[0]}

    def do(self, *command: object) -> dict[str, Any]:
        self.begin(*command)
        return self.answer()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def end(self, with_signal: signal.Signals | None = None) -> int:
        """Let it end as programs do; its exit code."""
        assert self._process.stdin is not None
        if with_signal is not None:
            self._process.send_signal(with_signal)
        self._process.stdin.close()
        code = self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code


Join = Callable[..., Member]


@pytest.fixture
def join(tmp_path: Path) -> Iterator[Join]:
    """Starts a member on a file of the test's; kills those that are left."""
    started: list[Member] = []

    def start(path: Path | str = "jobs.db", *, wait: bool = True) -> Member:
        member = Member(path, tmp_path)
        started.append(member)
        if wait:
            member.serves_at_first = member.answer()["serves"]  # type: ignore[attr-defined]
        return member

    yield start
    for member in started:
        member.kill()


def serving(members: list[Member]) -> list[Member]:
    return [member for member in members if member.do("serves")["serves"]]


def test_of_those_who_come_at_once_exactly_one_serves(join: Join) -> None:
    members = [join(wait=False) for _ in range(5)]
    assert sorted(member.answer()["serves"] for member in members) == [False] * 4 + [True]
    for number, member in enumerate(members):
        assert member.do("enqueue", 10, f"of-{number}")["created"] == 10
    assert [member.do("total")["total"] for member in members] == [50] * 5


def test_a_file_is_one_by_whatever_name(join: Join, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    first = join("folder/jobs.db")
    first.do("enqueue", 3, "b")
    (tmp_path / "name.db").symlink_to(tmp_path / "folder" / "jobs.db")
    for path in (tmp_path / "folder/jobs.db", "link/jobs.db", "folder/../link/jobs.db", "name.db"):
        member = join(path)
        assert member.do("serves") == {"serves": False}
        assert member.do("total") == {"total": 3}


@pytest.mark.parametrize("ends", ["close", "kill"])
def test_another_takes_over_when_the_one_that_serves_goes(join: Join, ends: str) -> None:
    owner, *others = (join() for _ in range(3))
    assert serving([owner, *others]) == [owner]
    owner.do("enqueue", 5, "b")
    if ends == "kill":
        owner.kill()
    else:
        assert owner.end() == 0
    assert [member.do("total")["total"] for member in others] == [5, 5]
    assert len(serving(others)) == 1


def until_some_are_there(member: Member, seed: int) -> None:
    """Where in an enqueue of `ROWS` rows this is, is left to the seed."""
    some = random.Random(seed).randrange(ROWS)
    eventually(lambda: member.do("total")["total"] >= some)


@pytest.mark.parametrize("seed", one_of(4))
def test_what_others_are_doing_goes_on_when_the_owner_is_killed(join: Join, seed: int) -> None:
    owner, producer, worker, watcher = (join() for _ in range(4))
    first = producer.do("enqueue", 200, "first")
    watcher.begin("watch", first["id"])
    worker.begin("finish", first["id"])
    producer.begin("enqueue", ROWS, "b")
    until_some_are_there(owner, seed)
    owner.kill()
    sent = producer.answer()
    # A row whose answer was lost may be found as a duplicate of itself, and is there once.
    assert sent["created"] + sent["duplicates"] == ROWS
    assert worker.answer() == {"finished": True}
    assert watcher.answer() == {"completed": 200, "total": 200}
    survivor = join()
    assert survivor.do("total")["total"] == ROWS + 200
    again = survivor.do("enqueue", ROWS, "b")
    assert (again["created"], again["duplicates"]) == (0, ROWS)


@pytest.mark.parametrize("seed", one_of(2))
def test_an_enqueue_that_died_with_its_own_server_is_finished_by_the_next(
    join: Join, seed: int
) -> None:
    owner, other = join(), join()
    owner.begin("enqueue", ROWS, "b")
    until_some_are_there(other, seed)
    owner.kill()
    there = other.do("total")["total"]
    sent = other.do("enqueue", ROWS, "b")
    assert (sent["created"], sent["duplicates"]) == (ROWS - there, there)
    assert other.do("total")["total"] == ROWS


def test_a_child_of_the_owner_does_not_keep_the_file_after_it(join: Join) -> None:
    owner, other = join(), join()
    owner.do("enqueue", 3, "b")
    child = owner.do("fork")["child"]
    try:
        owner.kill()
        assert other.do("total") == {"total": 3}
        assert other.do("serves") == {"serves": True}
    finally:
        os.kill(child, signal.SIGKILL)


def test_what_a_dead_owner_left_does_not_mislead_anybody(join: Join, tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    owner = join()
    owner.do("enqueue", 3, "b")
    owner.kill()
    found = endpoint.read(path)
    assert found is not None
    left = list(found.link.parent.glob(f"{found.link.name}.*"))
    assert left, "a killed process cannot tidy up"
    with connect(f"embedded:{path}") as client:
        assert client.queue_stats("q").total == 3
        assert not set(left) & set(found.link.parent.iterdir())


def test_this_user_alone_can_find_the_key(join: Join, tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    member = join()
    note = endpoint.endpoint_file(path)
    assert note.stat().st_mode & 0o777 == 0o600
    note.chmod(0o644)
    with pytest.raises(errors.UnavailableError, match="not this user alone") as caught:
        connect(f"embedded:{path}")
    assert str(note) in caught.value.message
    known = endpoint.Endpoint(Path("/nowhere"), json.loads(note.read_text())["api_key"])
    assert member.end() == 0
    # What others may have read lets nobody in any more.
    with connect(f"embedded:{path}") as client:
        assert client.settings.api_key != known.api_key
        assert note.stat().st_mode & 0o777 == 0o600


def test_a_copy_of_the_folder_is_another_file(join: Join, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    member = join("a/jobs.db")
    member.do("enqueue", 3, "b")
    subprocess.run(["cp", "-r", str(tmp_path / "a"), str(tmp_path / "copy")], check=True)
    copy = join("copy/jobs.db")
    assert copy.do("serves") == {"serves": True}
    copy.do("enqueue", 2, "only-in-the-copy")
    assert member.do("total") == {"total": 3}


@pytest.mark.parametrize("name", ["file/jobs.db", "folder"])
def test_a_path_that_cannot_be_served_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(errors.UnavailableError) as caught:
        connect(f"embedded:{tmp_path / name}")
    assert str(tmp_path / name) in caught.value.message


def test_a_worker_in_a_terminal_outlives_the_script_that_served_it(
    join: Join, tmp_path: Path
) -> None:
    (tmp_path / "handlers.py").write_text("def double(job):\n    return {'twice': 2}\n")
    script = join()
    first = script.do("enqueue", 50, "first")["id"]
    worker = forked.Popen(
        [sys.executable, "-m", "spooled_pipelines.cli.main", "work", "q", "handlers:double"],
        cwd=tmp_path,
        env={**os.environ, "SPOOLED_GRPC_ADDRESS": f"embedded:{tmp_path / 'jobs.db'}"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert script.do("watch", first) == {"completed": 50, "total": 50}
        script.kill()
        later = join()
        second = later.do("enqueue", 50, "second")["id"]
        assert later.do("watch", second) == {"completed": 50, "total": 50}
        worker.send_signal(signal.SIGTERM)
        _, said = worker.communicate(timeout=30)
        assert worker.returncode == 0, said
        assert "Traceback" not in said
    finally:
        worker.kill()
        worker.wait()
