"""What every program here has in common: its arguments, its rows, its answer."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
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


def say(seconds: float) -> None:
    """Print how long it took."""
    print(json.dumps(seconds), flush=True)


class Clock:
    """Seconds since it was made."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._began = now()

    def seconds(self) -> float:
        return self._now() - self._began
