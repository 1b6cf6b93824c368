"""The trigger fires when the batch is done, through whatever happens to the server."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from spooled_pipelines import SpooledClient, connect
from spooled_pipelines.airflow.triggers import BatchTrigger, QueueTrigger, SpooledTrigger
from spooled_pipelines.wire.keys_v1 import CreateKeyRequest, RevokeKeyRequest
from spooled_pipelines.wire.methods import KEYS
from tests.support.proxy import Proxy
from tests.support.server_process import ServerProcess
from tests.support.waiting import aeventually

ROWS = 4
SECRET_ERROR = "ValueError: " + "row content " * 100


def enqueue(server: ServerProcess, queue: str) -> dict[str, Any]:
    with connect(server.address, api_key=server.api_key) as client:
        made: dict[str, Any] = client.enqueue_batch(
            pd.DataFrame({"id": range(ROWS)}), queue, key="id"
        ).to_dict()
        return made


def settle(server: ServerProcess, queue: str, *, fail: int = 0) -> None:
    with connect(server.address, api_key=server.api_key) as client:
        for number, job in enumerate(client.dequeue(queue, "hand", batch_size=ROWS)):
            if number < fail:
                client.fail(job, SECRET_ERROR, retry=False)
            else:
                client.complete(job)


async def first_event(trigger: SpooledTrigger) -> dict[str, Any]:
    async for event in trigger.run():
        payload: dict[str, Any] = event.payload
        return payload
    raise AssertionError("the trigger ended without an event")


async def start(trigger: SpooledTrigger, said: list[str]) -> asyncio.Task[dict[str, Any]]:
    """Run the trigger until it has looked once."""
    log = SimpleNamespace(info=lambda text, *values: said.append(text % values if values else text))
    log.warning = log.info
    trigger._log = log
    running = asyncio.create_task(first_event(trigger))
    await aeventually(lambda: said or running.done())
    assert not running.done(), running.result()
    return running


def test_it_is_made_again_from_what_it_stores() -> None:
    trigger = BatchTrigger({"batch_id": "b_1"}, "spooled_eu", 0.25, 12345.5)
    path, arguments = trigger.serialize()
    assert path.rpartition(".")[2] == "BatchTrigger"
    stored = json.loads(json.dumps(arguments))
    assert BatchTrigger(**stored).serialize() == (path, arguments)


@pytest.mark.parametrize(
    "path",
    [
        "spooled_pipelines.airflow.triggers.BatchTrigger",
        "spooled_pipelines.airflow.triggers.QueueTrigger",
        "spooled_pipelines.airflow.triggers.BatchDoneTrigger",
        "spooled_pipelines.airflow.triggers.DeadLettersTrigger",
    ],
)
def test_the_path_that_airflow_stores_leads_to_the_trigger_wherever_its_class_lives(
    path: str,
) -> None:
    # A task that is deferred while the package is upgraded is found by the old one's path.
    stored = {"batch": {"batch_id": "b_1"}, "queue_name": "q", "until": "open == 0"}
    module, _, name = path.rpartition(".")
    trigger_class = getattr(import_module(module), name)
    taken = stored.keys() & inspect.signature(trigger_class).parameters.keys()
    trigger = trigger_class(**{name: stored[name] for name in taken})
    assert trigger.serialize()[0] == path


async def test_it_fires_once_the_last_job_is_done(connected: ServerProcess, queue: str) -> None:
    made = enqueue(connected, queue)
    running = await start(BatchTrigger(made), said := [])
    settle(connected, queue)
    event = await asyncio.wait_for(running, 60)
    assert event["status"] == "settled"
    assert event["stats"]["completed"] == ROWS
    assert "0 of 4 jobs completed" in said[0]


async def test_it_fires_at_once_where_the_batch_is_done_already(
    connected: ServerProcess, queue: str
) -> None:
    made = enqueue(connected, queue)
    settle(connected, queue)
    assert (await first_event(BatchTrigger(made)))["status"] == "settled"


async def test_it_waits_on_a_server_without_the_batch_extension_too(
    plain_server: ServerProcess, connect_airflow: Callable[..., None], queue: str
) -> None:
    connect_airflow(plain_server)
    made = enqueue(plain_server, queue)
    running = await start(BatchTrigger(made), [])
    settle(plain_server, queue)
    event = await asyncio.wait_for(running, 20)
    assert event["status"] == "settled"
    assert event["stats"]["completed"] == ROWS


async def test_a_failure_fires_as_soon_as_it_is_certain_with_a_small_event(
    connected: ServerProcess, queue: str
) -> None:
    made = enqueue(connected, queue)
    settle(connected, queue, fail=1)
    event = await first_event(BatchTrigger(made, max_failed=0))
    assert event["status"] == "failed"
    assert event["stats"]["deadletter"] == 1
    assert len(json.dumps(event)) < 1000


async def test_it_goes_on_when_the_server_was_killed_and_came_back(
    start_server: Callable[..., ServerProcess],
    connect_airflow: Callable[..., None],
    queue: str,
) -> None:
    server = start_server()
    connect_airflow(server)
    made = enqueue(server, queue)
    triggers = (BatchTrigger(made), BatchTrigger(made), QueueTrigger(queue, "open == 0"))
    logs: list[list[str]] = [[] for _ in triggers]
    running = [await start(trigger, said) for trigger, said in zip(triggers, logs, strict=True)]
    await asyncio.to_thread(server.kill)
    await aeventually(lambda: all("is away" in said[-1] for said in logs), 60)
    await asyncio.to_thread(server.restart)
    await aeventually(lambda: all("is back" in said[-1] for said in logs), 60)
    assert not any(wait.done() for wait in running)
    settle(server, queue)
    for ended in await asyncio.wait_for(asyncio.gather(*running), 20):
        assert ended["status"] == "settled"
    # A task has a line when the server goes and one when it is back, and none of each try.
    for said in logs:
        away, back = said[1:3]
        assert away.startswith("The server of the Airflow connection 'spooled_default' is away")
        assert f"{server.address} " in away
        assert back.startswith("The server of the Airflow connection 'spooled_default' is back")
        assert not any("connection" in line for line in said[3:])


@pytest.fixture
def read_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    triggers = "spooled_pipelines.airflow.triggers"
    monkeypatch.setattr(f"{triggers}.connection_pool.READ_AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(f"{triggers}.asset_events.READ_AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(f"{triggers}.batch._KEY_SECONDS", 0.0)


@pytest.mark.usefixtures("read_again_soon")
async def test_a_connection_that_is_mended_meanwhile_is_taken(
    connected: ServerProcess, connect_airflow: Callable[..., None], queue: str
) -> None:
    made = enqueue(connected, queue)
    triggers = (BatchTrigger(made), QueueTrigger(queue, "open == 0"))
    logs: list[list[str]] = [[] for _ in triggers]
    with Proxy(connected.address) as former:
        host, _, port = former.address.rpartition(":")
        key = connected.api_key
        connect_airflow(None, host=host, port=int(port), password=key)
        running = [await start(trigger, said) for trigger, said in zip(triggers, logs, strict=True)]
    await aeventually(lambda: all("is away" in said[-1] for said in logs), 60)
    connect_airflow(connected)
    await aeventually(lambda: all(any("was changed" in line for line in said) for said in logs), 60)
    settle(connected, queue)
    for ended in await asyncio.wait_for(asyncio.gather(*running), 60):
        assert ended["status"] == "settled"


@pytest.mark.usefixtures("read_again_soon")
async def test_a_key_that_is_replaced_and_then_revoked_ends_no_wait(
    server: ServerProcess, client: SpooledClient, connect_airflow: Callable[..., None], queue: str
) -> None:
    made = enqueue(server, queue)
    request = CreateKeyRequest(name="former", role="read")
    former = client.connection.unary(KEYS["CreateKey"], request, repeatable=False)
    connect_airflow(server, password=former.secret)
    said: list[str] = []
    running = await start(BatchTrigger(made), said)
    connect_airflow(server)
    client.connection.unary(KEYS["RevokeKey"], RevokeKeyRequest(id=former.key.id), repeatable=True)
    await aeventually(lambda: any("was changed" in line for line in said), 60)
    settle(server, queue)
    assert (await asyncio.wait_for(running, 60))["status"] == "settled"


async def test_it_starts_before_the_server_does(
    start_server: Callable[..., ServerProcess],
    connect_airflow: Callable[..., None],
    queue: str,
) -> None:
    server = start_server()
    connect_airflow(server)
    made = enqueue(server, queue)
    settle(server, queue)
    await asyncio.to_thread(server.kill)
    running = asyncio.create_task(first_event(BatchTrigger(made, deadline=time.time() + 60)))
    await asyncio.wait([running], timeout=0.5)
    assert not running.done()
    await asyncio.to_thread(server.restart)
    assert (await asyncio.wait_for(running, 20))["status"] == "settled"


async def test_at_the_deadline_it_fires_with_what_holds_the_batch_back(
    connected: ServerProcess, queue: str
) -> None:
    made = enqueue(connected, queue)
    event = await first_event(BatchTrigger(made, deadline=time.time() + 0.5))
    assert event["status"] == "timeout"
    assert "worker" in event["message"]


async def test_a_deadline_that_is_past_fires_at_once(connected: ServerProcess, queue: str) -> None:
    made = enqueue(connected, queue)
    event = await first_event(BatchTrigger(made, deadline=time.time() - 100))
    assert event["status"] == "timeout"


async def test_at_the_deadline_without_a_server_it_says_so(
    start_server: Callable[..., ServerProcess],
    connect_airflow: Callable[..., None],
    queue: str,
) -> None:
    server = start_server()
    connect_airflow(server)
    made = enqueue(server, queue)
    await asyncio.to_thread(server.kill)
    event = await first_event(BatchTrigger(made, deadline=time.time() + 0.5))
    assert event["status"] == "timeout"
    assert "does not answer" in event["message"]


async def test_what_does_not_get_better_is_told_from_what_may(
    server: ServerProcess, connect_airflow: Callable[..., None], queue: str
) -> None:
    connect_airflow(server)
    event = await first_event(BatchTrigger({"batch_id": "b_nosuchbatch"}))
    assert event["status"] == "fatal"
    assert "b_nosuchbatch" in event["message"]
    made = enqueue(server, queue)
    connect_airflow(server, password="sp_test_thisoneiswrong")
    event = await first_event(BatchTrigger(made))
    assert event["status"] == "error"
    assert "sp_test_thisoneiswrong" not in event["message"]


async def test_two_may_wait_for_the_same_batch(connected: ServerProcess, queue: str) -> None:
    made = enqueue(connected, queue)
    running = [await start(BatchTrigger(made), []) for _ in range(2)]
    settle(connected, queue)
    events = await asyncio.wait_for(asyncio.gather(*running), 60)
    assert [event["status"] for event in events] == ["settled", "settled"]


async def test_a_wait_that_is_taken_away_leaves_the_batch_alone(
    connected: ServerProcess, client: SpooledClient, queue: str
) -> None:
    made = enqueue(connected, queue)
    running = await start(BatchTrigger(made), [])
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    stats = client.batch(made).stats()
    assert (stats.pending, stats.cancelled) == (ROWS, 0)


def test_waiting_never_holds_up_the_event_loop_nor_loads_pandas_or_pyarrow(
    connected: ServerProcess, queue: str
) -> None:
    made = enqueue(connected, queue)
    settle(connected, queue)
    # In a fresh process, as a triggerer is: everything is still to be loaded.
    program = f"""
import asyncio, sys, threading
from spooled_pipelines.airflow.triggers import BatchTrigger

held_up, elsewhere = [], []

def note(event, args):
    if event in ("import", "time.sleep", "subprocess.Popen"):
        mine = threading.current_thread() is threading.main_thread()
        (held_up if mine else elsewhere).append(f"{{event}} {{args[0]}}")

async def main():
    sys.addaudithook(note)
    async for event in BatchTrigger({made!r}).run():
        assert event.payload["status"] == "settled", event.payload

asyncio.run(main())
print("on the loop", *held_up, sep="\\n")
print("elsewhere", *elsewhere, sep="\\n")
print("loaded", *[m for m in ("pandas", "pyarrow") if m in sys.modules], sep="\\n")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    said = done.stdout.partition("on the loop\n")[2]
    on_loop, _, rest = said.partition("elsewhere\n")
    elsewhere, _, loaded = rest.partition("loaded\n")
    assert loaded == ""
    # What Airflow itself does there, its triggerer has done before.
    ours = re.compile("import (spooled_pipelines|grpc|google)|time.sleep|subprocess")
    assert [line for line in on_loop.splitlines() if ours.match(line)] == []
    assert "import spooled_pipelines.client.aio.client" in elsewhere.splitlines()
