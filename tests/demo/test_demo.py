"""`python -m demo`: it shows what it promises, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from demo.processes import DemoError, Sessions, free_ports, tail
from demo.report import task_log
from demo.run import run_demo
from tests.support.waiting import eventually

ROWS = 300
COMMAND = [sys.executable, "-m", "demo"]


class Demo:
    """A demo in a process of its own, whose children can be told by their TMPDIR."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.output = folder / "out"
        self.printed = folder / "printed.txt"
        with self.printed.open("wb") as printed:
            self.process = subprocess.Popen(
                [*COMMAND, "--output", str(self.output), *arguments],
                stdout=printed,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(self.temporary)},
                start_new_session=True,
            )

    def text(self) -> str:
        return self.printed.read_text()

    def until_it_says(self, words: str, seconds: float = 240) -> None:
        def said() -> bool:
            assert self.process.poll() is None or words in self.text(), self.text()
            return words in self.text()

        eventually(said, seconds)

    def processes(self) -> dict[int, str]:
        """What lives of it and of all that it started, in whatever session."""
        mark = f"TMPDIR={self.temporary}".encode()
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            # Those that end meanwhile are not what is looked for.
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().decode()
        return found


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    started: list[Demo] = []

    def start(*arguments: str) -> Demo:
        started.append(Demo(tmp_path, *arguments))
        return started[-1]

    yield start
    for demo in started:
        for pid in demo.processes():
            os.kill(pid, signal.SIGKILL)
        demo.process.wait()


# Its steps are in each run, with an Airflow that others use: tests/airflow/test_standalone.py.
@pytest.mark.airflow
@pytest.mark.long
@pytest.mark.timeout(480)
def test_the_demo_shows_a_table_becoming_jobs_and_results_and_a_rerun_creating_none(
    start_demo: Callable[..., Demo],
) -> None:
    demo = start_demo("--rows", str(ROWS))
    assert demo.process.wait(400) == 0, demo.text()
    text = demo.text()
    for words in (
        f"{ROWS} flights, {ROWS} jobs created",
        "is deferred",
        f"{ROWS} of {ROWS} flights done",
        f"0 jobs created, {ROWS} duplicates",
        f"{ROWS} flights became {ROWS} jobs",
        f"created 0 jobs, {ROWS} were there",
        f"{demo.output}/flights.parquet",
        f"{demo.output}/flights.png",
    ):
        assert words in text, words
    ten = text.rpartition("\n\n")[2].strip().splitlines()
    assert len(ten) == 10
    # No terminal: plain lines.
    assert "\r" not in text
    assert "\x1b" not in text
    assert pq.read_table(demo.output / "flights.parquet").num_rows == ROWS
    assert (demo.output / "flights.png").stat().st_size > 10_000
    assert demo.processes() == {}
    assert list(demo.temporary.iterdir()) == []


@pytest.mark.airflow
@pytest.mark.long
@pytest.mark.timeout(480)
def test_a_program_gets_one_object_and_people_the_rest(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--rows", str(ROWS), "--output", str(tmp_path), "--json"],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["first"]["created"], told["again"]["created"]) == (ROWS, 0)
    assert told["found"]["flights"] == ROWS
    assert "is deferred" in done.stderr


@pytest.mark.airflow
@pytest.mark.long
@pytest.mark.timeout(480)
@pytest.mark.parametrize(
    ("number", "code", "moment"),
    [
        # Airflow is just making its processes.
        (signal.SIGINT, 130, "starting a Spooled server"),
        # All of it runs, and a task, too.
        (signal.SIGTERM, 143, "Airflow is up"),
    ],
)
def test_the_demo_leaves_no_process_and_no_folder_when_it_is_told_to_end(
    number: signal.Signals, code: int, moment: str, start_demo: Callable[..., Demo]
) -> None:
    demo = start_demo("--rows", str(ROWS))
    demo.until_it_says(moment)
    eventually(lambda: len(demo.processes()) >= 4, 120)
    demo.process.send_signal(number)
    assert demo.process.wait(60) == code, demo.text()
    assert demo.processes() == {}
    assert list(demo.temporary.iterdir()) == []
    assert "Traceback" not in demo.text()


@pytest.mark.parametrize(
    ("rows", "message"), [("february", "'february'"), ("0", "'0'"), ("-5", "'-5'")]
)
def test_rows_that_make_no_sense_end_it_before_anything_starts(
    rows: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_demo(rows=rows, output=tmp_path) != 0
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""


def test_an_output_that_is_a_file_ends_it_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run_demo(rows="5", output=tmp_path / "file") != 0
    assert "is a file" in capsys.readouterr().err


# Its processes.


PROGRAM = """
import os, signal, subprocess, sys
print("started", flush=True)
if len(sys.argv) > 1:
    child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
    print("child", child.pid, flush=True)
signal.pause()
"""
# Airflow's components make process groups of their own.
STUBBORN = """
import os, signal
os.setpgid(0, 0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.pause()
"""


def test_a_session_ends_whole_with_groups_of_its_own_and_with_those_that_ignore_sigterm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.processes.GRACE_SECONDS", 0.5)
    with Sessions() as sessions:
        session = sessions.start(
            "it",
            [sys.executable, "-c", PROGRAM, STUBBORN],
            log=tmp_path / "log",
            environment=dict(os.environ),
            folder=tmp_path,
        )
        words = eventually(lambda: [w for w in tail(session.log).split() if w.isdigit()])
        child = int(words[0])
        eventually(lambda: os.getpgid(child) == child)
        assert sorted(session.members()) == sorted([session.process.pid, child])
    assert session.members() == []


def test_a_process_that_ends_early_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Sessions() as sessions:
        session = sessions.start(
            "server",
            [sys.executable, "-c", "print('the port is taken'); raise SystemExit(1)"],
            log=tmp_path / "log",
            environment=dict(os.environ),
            folder=tmp_path,
        )
        with pytest.raises(DemoError, match="server ended while the demo waited for it") as raised:
            session.until(lambda: None, seconds=30, what="it")
    assert "the port is taken" in str(raised.value)


def test_a_wait_in_vain_ends_in_time_with_the_end_of_the_log(tmp_path: Path) -> None:
    with Sessions() as sessions:
        session = sessions.start(
            "airflow",
            [sys.executable, "-c", PROGRAM],
            log=tmp_path / "log",
            environment=dict(os.environ),
            folder=tmp_path,
        )
        eventually(lambda: "started" in tail(session.log))
        with pytest.raises(DemoError, match=r"the thing: not within 0 s\.(.|\n)*started"):
            session.until(lambda: None, seconds=0.3, what="the thing")


def test_signals_wait_until_a_started_process_is_noted(tmp_path: Path) -> None:
    program = f"""
import os, signal, sys
from pathlib import Path
from demo import processes as d

class Interrupted(d.Session):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        print(self.process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGINT)

d.Session = Interrupted
with d.Sessions() as sessions:
    sessions.start("it", [sys.executable, "-c", "import signal; signal.pause()"],
        log=Path({str(tmp_path / "log")!r}), environment=dict(os.environ), folder=Path("/"))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "KeyboardInterrupt" in done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_ports_are_free_and_different() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20


def test_the_end_of_a_tasks_log_is_shown_for_people(tmp_path: Path) -> None:
    folder = tmp_path / "dag_id=flights" / "run_id=demo" / "task_id=report"
    folder.mkdir(parents=True)
    entries = [
        {"level": "info", "event": "begun"},
        {
            "level": "error",
            "event": "Task failed with exception",
            "error_detail": [{"exc_type": "ValueError", "exc_value": "no such thing"}],
        },
    ]
    for number in (1, 2):
        log = folder / f"attempt={number}.log"
        log.write_text("\n".join([*map(json.dumps, entries), f"not JSON {number}"]))
        os.utime(log, (time.time() + number,) * 2)
    assert task_log(tmp_path, "report").splitlines() == [
        "info  begun",
        "error  Task failed with exception  ValueError: no such thing",
        "not JSON 2",
    ]
    assert task_log(tmp_path, "enqueue") == "(none was written)"
