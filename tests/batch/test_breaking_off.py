"""Ctrl-C on a real process: what it leaves, and what it says."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from spooled_pipelines import connect
from tests.support import forked
from tests.support.server_process import ServerProcess

_SCRIPT = """
import asyncio, sys
from spooled_pipelines import AsyncSpooledClient, connect

address, key, queue, kind = sys.argv[1:5]
rows = [{"n": n, "text": "x" * 80} for n in range(int(sys.argv[5]))]

def progress(sent, total):
    if sent:
        print(sent, flush=True)

def blocking():
    with connect(address, api_key=key) as client:
        client.enqueue_batch(rows, queue, name="nightly", progress=progress, max_outstanding=200)

async def awaited():
    async with AsyncSpooledClient(address, api_key=key) as client:
        await client.enqueue_batch(
            rows, queue, name="nightly", progress=progress, max_outstanding=200
        )

if kind == "blocking":
    blocking()
else:
    asyncio.run(awaited())
"""


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_an_interrupt_leaves_a_batch_that_can_be_resumed_and_says_how(
    any_server: ServerProcess, queue: str, kind: str
) -> None:
    command = [sys.executable, "-c", _SCRIPT, any_server.address, any_server.api_key, queue, kind]
    with forked.Popen(
        [*command, "1000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        # Nobody works, so that it waits for room in the middle.
        assert int(process.stdout.readline()) > 0
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode != 0
    assert "KeyboardInterrupt" in said
    assert "is not sealed, so it does not count as complete" in said
    assert "Repeat the same call to resume" in said
    rows = [{"n": n, "text": "x" * 80} for n in range(1_000)]
    with connect(any_server.address, api_key=any_server.api_key) as own:
        batch = own.enqueue_batch(rows, queue, name="nightly")
        assert 0 < batch.duplicates <= 200
        assert batch.created + batch.duplicates == own.queue_stats(queue).total == 1_000
        assert batch.stats().sealed
