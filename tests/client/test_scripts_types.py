"""A user's script is checked by mypy: right ones pass, and each wrong line is said."""

from __future__ import annotations

import re
from pathlib import Path

from mypy import api

ROOT = Path(__file__).resolve().parents[2]
RIGHT = """
from dataclasses import dataclass

import spooled_pipelines as sp
from spooled_pipelines.notebook import bulk_enqueue
from spooled_pipelines.worker import Discard, Job, JobContext, Retry, Worker, batch_handler


def charge(job: Job) -> dict[str, float]:
    if job.retry_count > 2:
        raise Discard("enough")
    if not job.payload:
        raise Retry("later", after=5)
    return {"charged": float(job.payload["amount"])}


@batch_handler(max_rows=100)
def rows(jobs: list[Job]) -> list[dict[str, int]]:
    return [{"n": 1} for _ in jobs]


@dataclass
class Receipt:
    total: float


async def later(job: Job, context: JobContext) -> Receipt:
    return Receipt(1.0)


with sp.connect() as client:
    batch = client.enqueue_batch([{"amount": 1}], "q", key="amount", on_rerun="retry_failed")
    stats: sp.BatchStats = batch.wait("1m", max_failed=0.1)
    jobs: list[Job] = client.jobs("q", statuses=["deadletter"])
    more: sp.Batch = bulk_enqueue([{"amount": 2}], "q", on_changed="replace", quiet=True)
    Worker(client, "q", rows)
    Worker(client, "q", later)
    with Worker(client, "q", charge, concurrency=4) as worker:
        print(worker.report.completed, stats.open, jobs[0].id, more.id)
"""
# With the code of the error that mypy has to find in the line.
WRONG = """
import spooled_pipelines as sp
from spooled_pipelines.notebook import bulk_enqueue
from spooled_pipelines.worker import Job, Jobs, Worker  # attr-defined

client = sp.connect(adress="localhost:1")  # call-arg
batch = client.enqueue_batch([], "q", on_rerunn="fresh")  # call-arg
client.enqueue_batch([], "q", on_changed="replaced")  # arg-type
client.open_batch("b", "q", on_lossy=5)  # arg-type
bulk_enqueue([], "q", max_outstandign=5)  # call-arg
batch.wait(timeout=[1])  # arg-type
batch.wait(max_fail=1)  # call-arg
batch.stats().pendign  # attr-defined
Worker(client, "q", 5)  # arg-type


def of_nothing() -> None: ...
def text(job: Job) -> str: return ""
async def number(job: Job) -> int: return 1


Worker(client, "q", of_nothing)  # arg-type
Worker(client, "q", text)  # arg-type
Worker(client, "q", number)  # arg-type
sp.Bach  # attr-defined
"""


def test_a_right_script_passes_and_each_wrong_line_is_found(tmp_path: Path) -> None:
    for name, text in (("right", RIGHT), ("wrong", WRONG)):
        (tmp_path / f"{name}.py").write_text(text)
    settings = [
        "--config-file",
        str(ROOT / "pyproject.toml"),
        "--cache-dir",
        str(ROOT / ".mypy_cache"),
    ]
    shown, failed, _ = api.run([*settings, str(tmp_path / "right.py"), str(tmp_path / "wrong.py")])
    assert not failed, failed
    found = {
        (Path(file).name, int(line), code)
        for file, line, code in re.findall(
            r"^(.*?):(\d+): error: .*\[([\w-]+)\]$", shown, re.MULTILINE
        )
    }
    expected = {
        ("wrong.py", number, line.rpartition("# ")[2])
        for number, line in enumerate(WRONG.splitlines(), 1)
        if "  # " in line
    }
    assert found == expected, shown
