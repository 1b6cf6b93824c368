"""How long a command takes before it does anything: `--help`, beside an interpreter that does
nothing and one that imports typer alone."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_RUNS = 10
_LIMIT_SECONDS = 0.25
_COMMAND = Path(sys.executable).with_name("spooled-pipelines")


def start_up() -> bool:
    """Prints the least of each, taken in turns; whether `--help` comes within its limit.

    In seconds of a processor: what a clock on the wall says is that, and whatever else runs.
    """
    programs: dict[str, Sequence[str | Path]] = {
        "python -c pass": (sys.executable, "-c", "pass"),
        "python -c 'import typer'": (sys.executable, "-c", "import typer"),
        "spooled-pipelines --help": (_COMMAND, "--help"),
        "spooled-pipelines enqueue --help": (_COMMAND, "enqueue", "--help"),
    }
    least = dict.fromkeys(programs, float("inf"))
    for _ in range(_RUNS):
        for name, program in programs.items():
            least[name] = min(least[name], _seconds(program))
    nothing = least["python -c pass"]
    for name, seconds in least.items():
        print(f"  {name:<36}{seconds * 1000:7.0f} ms  {seconds / nothing:5.1f} ×  nothing")
    return least["spooled-pipelines --help"] < _LIMIT_SECONDS


def _seconds(program: Sequence[str | Path]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(program, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
