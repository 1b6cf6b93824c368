"""What every program here has in common: its arguments, its rows, its answer."""

from __future__ import annotations

import itertools
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """Run `python -m benchmarks.peers.NAME WHAT URL FILE SETTING...`."""

    what: str
    url: str
    rows: list[Row]
    settings: list[int]


def task() -> Task:
    """As the command line has it; the file has a JSON object on each line."""
    what, url, path, *settings = sys.argv[1:]
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return Task(what, url, rows, [int(setting) for setting in settings])


def lots(rows: list[Row], size: int) -> list[list[Row]]:
    """Yield the rows in groups of this size."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class Clock:
    """Seconds, and seconds of this process' CPU, since it was made; and of `jobs` the tenths."""

    def __init__(self, jobs: int = 10) -> None:
        self._began, self._cpu = time.perf_counter(), time.process_time()
        # Handlers may run in threads.
        self._numbers = itertools.count(1)
        self._tenth = max(1, jobs // 10)

    def count(self) -> int:
        """Count a job that a handler has; print the seconds after each tenth."""
        number = next(self._numbers)
        if not number % self._tenth:
            # In one piece.
            print(f"[{number}, {time.perf_counter() - self._began}]\n", end="", flush=True)
        return number

    def say(self) -> None:
        """Print both, as the last thing that a program says."""
        print(
            json.dumps([time.perf_counter() - self._began, time.process_time() - self._cpu]),
            flush=True,
        )
