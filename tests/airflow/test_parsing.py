"""Airflow reads every DAG file over and over, so reading one is cheap and asks nobody anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DAGS = Path(__file__).resolve().parents[2] / "dags"
# Everything in Python that goes to the network passes here first, as does what it starts.
PROGRAM = """
import sys

import airflow.sdk  # noqa: its own ways are its own

reached = []


def audit(event, arguments):
    ways = ("socket.connect", "socket.getaddrinfo", "socket.gethostby", "socket.send")
    if event.startswith(ways):
        reached.append((event, arguments))


sys.addaudithook(audit)

import runpy

before = set(sys.modules)
for path in sys.argv[1:]:
    runpy.run_path(path)
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
assert "spooled_pipelines" in loaded
assert not reached, reached
heavy = loaded & {"grpc", "google", "pandas", "pyarrow", "numpy"}
assert not heavy, heavy
"""


def test_reading_the_dags_reaches_no_network_and_loads_nothing_large(tmp_path: Path) -> None:
    files = [path for path in sorted(DAGS.glob("*.py")) if "airflow" in path.read_text()]
    assert files
    done = parse(files, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_dag_that_does_reach_the_network_would_be_seen(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    code = "import socket\n\nfrom spooled_pipelines.airflow import SpooledHook\n\n"
    bad.write_text(code + "socket.getaddrinfo('localhost', 80)\n")
    done = parse([bad], tmp_path)
    assert done.returncode != 0
    assert "socket.getaddrinfo" in done.stderr


def parse(files: list[Path], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(DAGS),
        # The connection is there, and leads nowhere.
        "AIRFLOW_CONN_SPOOLED_DEFAULT": '{"conn_type": "spooled", "host": "192.0.2.1"}',
    }
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, files)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
