"""`on_rerun="fresh"` dies just as its generation began: the next call does no row twice.

In `make test` sender and server die once, on SQLite; in `make check-long` either of them, on both
stores, and whatever the next call says.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from spooled_pipelines import SpooledClient, connect
from spooled_pipelines.batch.options.row_options import OnRerun
from spooled_pipelines.server.store.limits import STEP_JOBS
from tests.support import forked
from tests.support.postgres import empty_store
from tests.support.sampling import sampled
from tests.support.server_process import API_KEY, ServerProcess

# More than one transaction cancels.
ROWS = 2 * STEP_JOBS + 1
_SENDER = f"""
import sys
from spooled_pipelines import connect
with connect(sys.argv[1], api_key="{API_KEY}") as client:
    rows = [{{"row": row}} for row in range({ROWS})]
    client.enqueue_batch(rows, "q", key="row", name=sys.argv[2], on_rerun="fresh")
"""
CASES: list[tuple[str, bool, OnRerun]] = [
    (kind, kills_server, following)
    for kind in ("sqlite", "postgresql")
    for kills_server in (True, False)
    for following in ("resume", "retry_failed", "fresh")
]


def enqueue(client: SpooledClient, name: str, on_rerun: OnRerun = "resume") -> str:
    rows = [{"row": row} for row in range(ROWS)]
    return client.enqueue_batch(rows, "q", key="row", name=name, on_rerun=on_rerun).id


def wait_until_begun(client: SpooledClient, batch_id: str) -> None:
    while not client.batch(batch_id).stats().generation:
        pass


def handed_out(client: SpooledClient) -> Counter[int]:
    """How often each row is."""
    seen: Counter[int] = Counter()
    while jobs := client.dequeue("q", "w", batch_size=100):
        seen.update(int(job.payload["row"]) for job in jobs)
        for job in jobs:
            client.complete(job)
    return seen


@pytest.mark.parametrize("case", sampled(CASES, CASES[:1]), ids=str)
def test_no_row_is_done_twice(case: tuple[str, bool, OnRerun], tmp_path: Path) -> None:
    kind, kills_server, following = case
    with ExitStack() as stack:
        url = stack.enter_context(empty_store(kind, tmp_path))
        server = stack.enter_context(ServerProcess(tmp_path / "jobs.db", "--store", url))
        with connect(server.address, api_key=API_KEY) as client:
            batch_id = enqueue(client, "n")
            sender = forked.Popen([sys.executable, "-c", _SENDER, server.address, "n"])
            wait_until_begun(client, batch_id)
            if kills_server:
                server.kill()
            sender.kill()
            sender.wait()
        if kills_server:
            server.restart()
        with connect(server.address, api_key=API_KEY) as client:
            enqueue(client, "n", following)
            assert handed_out(client) == Counter(range(ROWS))
