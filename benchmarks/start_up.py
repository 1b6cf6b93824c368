"""How long a command takes before it does anything: `--help`, beside an interpreter that does
nothing and one that imports typer alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_RUNS = 15
_LIMIT_SECONDS = 0.25
_COMMAND = Path(sys.executable).with_name("spooled-pipelines")


def start_up() -> bool:
    """Prints the least of each, taken in turns; whether `--help` comes within its limit."""
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
    began = time.perf_counter()
    subprocess.run(program, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
