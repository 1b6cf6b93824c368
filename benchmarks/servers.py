"""A real server in a process of its own, over a new SQLite file."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

API_KEY = "sp_test_benchmarks0000000000000000000000"


@contextmanager
def server(*arguments: str) -> Iterator[str]:
    """Its address; it is ended, and its store removed, at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as folder,
        server_over(Path(folder) / "jobs.db", *arguments) as address,
    ):
        yield address


@contextmanager
def server_over(store: Path, *arguments: str) -> Iterator[str]:
    """Start a server over a file that stays."""
    command = [
        sys.executable,
        "-m",
        "spooled_pipelines.cli.main",
        "serve",
        "--listen",
        "127.0.0.1:0",
    ]
    command += ["--store", f"sqlite:///{store}", "--api-key", API_KEY, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line.startswith("listening on "):
            raise RuntimeError(f"the server did not start: {line!r}")
        yield line.removeprefix("listening on ")
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
