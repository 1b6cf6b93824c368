"""How long a command takes to start: `--help`, an empty interpreter, and one that imports typer."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import show

_RUNS = 10
_LIMIT_SECONDS = 0.25
_COMMAND = Path(sys.executable).with_name("spooled-pipelines")
_PROMISED = "spooled-pipelines --help"


def start_up() -> bool:
    """Print the median wall time and the least CPU time of each; return whether `--help` is quick.

    They are run in turns. The least CPU time is the one without other load on the machine.
    """
    programs: dict[str, Sequence[str | Path]] = {
        "python -c pass": (sys.executable, "-c", "pass"),
        "python -c 'import typer'": (sys.executable, "-c", "import typer"),
        _PROMISED: (_COMMAND, "--help"),
        "spooled-pipelines enqueue --help": (_COMMAND, "enqueue", "--help"),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(_RUNS):
        for name, program in programs.items():
            taken[name].append(_seconds(program))
    wall = {name: statistics.median(each for each, _ in runs) for name, runs in taken.items()}
    nothing = wall["python -c pass"]
    for name, runs in taken.items():
        processor = min(each for _, each in runs)
        print(
            f"  {name:<36}{wall[name] * 1000:7.0f} ms  {wall[name] / nothing:5.1f} ×  nothing"
            f"  (of a processor: {processor * 1000:.0f} ms at least)"
        )
    promise = f"{_LIMIT_SECONDS * 1000:.0f} ms by the clock for --help, median of {_RUNS} runs"
    return show(promise, wall[_PROMISED] / _LIMIT_SECONDS, at_most=1)


def _seconds(program: Sequence[str | Path]) -> tuple[float, float]:
    """By the clock on the wall, and of a processor."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(program, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
