"""What each file of tests costs: measured in every run, kept in a table, scheduled by it.

The table is `tests/durations.tsv`: seconds on the clock and seconds of a processor, of the tests
and of all that they start, by file. A run writes its own into `build/durations.tsv`, and says which
files took twice what the table says. No test fails on time: a machine may be busy.

    pytest --keep-durations     # the files that ran take their place in the table
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from tests.support.postgres import end_shared_cluster
from tests.support.programs import ROOT

TABLE = ROOT / "tests" / "durations.tsv"
OF_THIS_RUN = ROOT / "build" / "durations.tsv"
# Outside all files: imports, collection, and what is ended after the last test.
AROUND = "(around the tests)"
# The one that all processes of a run share.
POSTGRESQL = "(PostgreSQL)"
# Twice a short time says nothing.
NOTED_SECONDS = 5.0
QUICK_CPU_SECONDS = 60.0
# What the tests of a folder need beyond the extra `dev-core`.
NEEDED = {
    "airflow": "airflow",
    "cli": "keyring",
    "demo": "airflow",
    "deploy": "kubernetes_validate",
    "docs": "airflow",
    "engines": "dask",
    "interop": "spooled",
    "notebook": "nbclient",
    "packaging": "build",
}


class Cost(NamedTuple):
    wall: float
    cpu: float

    def __add__(self, other: object) -> Cost:
        assert isinstance(other, Cost)
        return Cost(self.wall + other.wall, self.cpu + other.cpu)


Costs = dict[str, Cost]
# What nobody has measured yet.
NEW = Cost(10.0, 3.0)


def read(path: Path = TABLE) -> Costs:
    """Return the cost of each file in the table."""
    if not path.exists():
        return {}
    rows = (line.split("\t") for line in path.read_text().splitlines()[1:])
    return {file: Cost(float(wall), float(cpu)) for file, wall, cpu in rows}


def write(path: Path, costs: Mapping[str, Cost]) -> None:
    """Write the table, the most expensive file first."""
    path.parent.mkdir(exist_ok=True)
    rows = sorted(costs.items(), key=lambda row: (-round(row[1].cpu, 1), row[0]))
    lines = [f"{file}\t{cost.wall:.1f}\t{cost.cpu:.1f}\n" for file, cost in rows]
    path.write_text("file\twall_seconds\tcpu_seconds\n" + "".join(lines))


def doubled(now: Mapping[str, Cost], before: Mapping[str, Cost]) -> Iterator[str]:
    """Yield a line for each file that took the processor twice as long as it did."""
    for file, cost in sorted(now.items(), key=lambda row: -row[1].cpu):
        usual = before.get(file)
        if usual and cost.cpu > max(2 * usual.cpu, usual.cpu + NOTED_SECONDS):
            yield f"{file}: {cost.cpu:.1f} s of a processor, {usual.cpu:.1f} s in the table"


@functools.cache
def quick(left_out: frozenset[str]) -> frozenset[str]:
    """Return the files to run in a minute and a half: those that cost least.

    Left out as well are the folders whose tests need what is not installed.
    """
    costs = read()
    files = {str(path.relative_to(ROOT)) for path in ROOT.glob("tests/**/test_*.py")} - left_out
    missing = {folder for folder, package in NEEDED.items() if find_spec(package) is None}
    chosen: set[str] = set()
    total = 0.0
    for file in sorted(files, key=lambda file: (costs.get(file, NEW).cpu, file)):
        total += costs.get(file, NEW).cpu
        if total > QUICK_CPU_SECONDS:
            break
        if file.split("/")[1] not in missing:
            chosen.add(file)
    return frozenset(chosen)


class Meter:
    """The seconds that this process and all that it has started took of a processor.

    What ended is counted by the process that waited for it. What is killed with those that would
    have waited, as a whole Airflow is, is missing from one look to the next, and then added.
    """

    # A look is at all processes of the machine.
    _PAUSE_SECONDS = 5.0

    def __init__(self, *, alone: bool) -> None:
        self._alone = alone
        self._seen = 0.0
        self._lost = 0.0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        if not alone:
            threading.Thread(target=self._go_on_looking, daemon=True).start()

    def read(self) -> float:
        if self._alone:
            return time.process_time()
        with self._lock:
            now = self._used()
            if now < self._seen:
                # One may have ended between the looks at its parent and at itself.
                now = self._used()
            self._lost += max(0.0, self._seen - now)
            self._seen = now
            return now + self._lost

    def end(self) -> None:
        self._ended.set()

    def _go_on_looking(self) -> None:
        while not self._ended.wait(self._PAUSE_SECONDS):
            self.read()

    @staticmethod
    def _used() -> float:
        me = psutil.Process()
        total = 0.0
        for process in (me, *me.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += sum(process.cpu_times()[:4])
        return total


class Durations:
    """The plugin: measures in each process of the run, and sums up in the one that leads it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._costs: Costs = {}
        # Then what it starts are the processes with the tests, which measure themselves.
        self._meter = Meter(alone=bool(config.getoption("numprocesses", None)))
        self._at = Cost(time.monotonic(), 0.0)
        self._running = ""

    def _mark(self) -> Cost:
        return Cost(time.monotonic(), self._meter.read())

    def _close(self, file: str) -> None:
        """All since the last mark was for this file."""
        before, self._at = self._at, self._mark()
        spent = Cost(self._at.wall - before.wall, max(0.0, self._at.cpu - before.cpu))
        self._costs[file] = self._costs.get(file, Cost(0.0, 0.0)) + spent

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Iterator[None]:
        file = file_of(item)
        if file != self._running:
            self._close(AROUND)
            self._running = file
        try:
            return (yield)
        finally:
            if nextitem is None or file_of(nextitem) != file:
                self._close(file)
                self._running = ""

    def pytest_sessionfinish(self) -> None:
        self._close(AROUND)
        self._meter.end()
        output: dict[str, Any] | None = getattr(self._config, "workeroutput", None)
        if output is not None:
            output["durations"] = {file: list(cost) for file, cost in self._costs.items()}
        elif cpu := end_shared_cluster():
            self._costs[POSTGRESQL] = Cost(0.0, cpu)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        for file, cost in getattr(node, "workeroutput", {}).get("durations", {}).items():
            self._costs[file] = self._costs.get(file, Cost(0.0, 0.0)) + Cost(*cost)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if hasattr(self._config, "workerinput") or len(self._costs) < 2:
            return
        write(OF_THIS_RUN, self._costs)
        total = sum(cost.cpu for cost in self._costs.values())
        known = read()
        lines = list(doubled(self._costs, known))
        terminalreporter.section(f"{total:.0f} s of processors, {OF_THIS_RUN.relative_to(ROOT)}")
        for line in lines:
            terminalreporter.write_line(f"doubled: {line}")
        if self._config.getoption("--keep-durations"):
            kept = {file: cost for file, cost in known.items() if (ROOT / file).exists()}
            write(TABLE, {**kept, **self._costs})


def file_of(item: pytest.Item) -> str:
    """Return the file's path from the root of the project."""
    return item.nodeid.partition("::")[0]
