"""Flows on a real Prefect server: what finds its batch again, what is shown, what stays secret."""

from __future__ import annotations

import asyncio
import importlib
import pickle
import re
import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from prefect import flow, get_client, task
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.futures import wait
from prefect.states import AwaitingRetry, Cancelling
from pydantic import SecretStr

from spooled_pipelines import SpooledClient
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.prefect import (
    SpooledBatch,
    SpooledCredentials,
    aenqueue_batch,
    await_batch,
    cancel_batches,
    enqueue_batch,
    materialize_batch,
    resume_settled_flows,
    suspend_until_settled,
    wait_for_batch,
)
from spooled_pipelines.worker import Worker
from tests.support.prefect_server import shared_prefect_server
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually

prefect_flow = importlib.import_module("examples.prefect_flow")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "from-prefect.md"
# Prefect leaves sockets of its own clients to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)
TABLE = pd.DataFrame({"id": range(10), "amount": 1.5})


@pytest.fixture(scope="module", autouse=True)
def _prefect() -> None:
    shared_prefect_server()


@pytest.fixture(scope="module")
def credentials(server: ServerProcess) -> SpooledCredentials:
    made = SpooledCredentials(
        host=server.host,
        port=server.port,
        api_key=SecretStr(server.api_key),
        page="http://page.example",
    )
    made.save("production")
    return made


def unsaved(credentials: SpooledCredentials) -> SpooledCredentials:
    return SpooledCredentials(
        host=credentials.host, port=credentials.port, api_key=credentials.api_key
    )


def work(client: SpooledClient, queue: str, *, failed: int = 0) -> None:
    """Settle every job of the queue; the first `failed` fail."""
    while jobs := client.dequeue(queue, "worker", batch_size=100):
        for job in jobs:
            if job.payload["id"] < failed:
                client.fail(job, "no | `customer`\n  in line 3", retry=False)
            else:
                client.complete(job, result={"double": job.payload["amount"] * 2})


def start(made: Any, *, deployed: bool = False, **parameters: Any) -> uuid.UUID:
    """Make a run of the flow; as one of a deployment, which alone may be suspended."""
    with get_client(sync_client=True) as api:
        if not deployed:
            return api.create_flow_run(made, parameters=parameters).id
        deployment = api.create_deployment(api.create_flow(made), f"d-{uuid.uuid4().hex[:8]}")
        return api.create_flow_run_from_deployment(deployment, parameters=parameters).id


def execute(made: Any, flow_run_id: uuid.UUID, *, retry: bool = False) -> Any:
    """Do what Prefect's runner does with a run; return its state."""
    with get_client(sync_client=True) as api:
        if retry:
            # As the button of that name does.
            api.set_flow_run_state(flow_run_id, AwaitingRetry(), force=True)
        flow_run = api.read_flow_run(flow_run_id)
    try:
        return run_flow(made, flow_run=flow_run, return_type="state")
    except Pause as paused:
        return paused.state


# What finds its batch again: each row of the page's table.

Happening = Callable[[SpooledCredentials, str, Callable[[], None]], list[SpooledBatch]]
HAPPENINGS: dict[str, Happening] = {}


def happens(what: str) -> Callable[[Happening], Happening]:
    def keep(happening: Happening) -> Happening:
        HAPPENINGS[what] = happening
        return happening

    return keep


@happens("the task is retried (`retries=`)")
def _task_retried(
    credentials: SpooledCredentials, queue: str, between: Callable[[], None]
) -> list[SpooledBatch]:
    batches: list[SpooledBatch] = []

    @task(retries=1)
    def enqueue_and_fail_once() -> None:
        batches.append(enqueue_batch.fn(TABLE, queue, key="id", credentials=credentials))
        if len(batches) == 1:
            between()
            raise OSError("once")

    @flow
    def task_is_retried() -> None:
        enqueue_and_fail_once()

    task_is_retried()
    return batches


@happens("the flow is retried (`retries=`)")
def _flow_retried(
    credentials: SpooledCredentials, queue: str, between: Callable[[], None]
) -> list[SpooledBatch]:
    batches: list[SpooledBatch] = []

    @flow(retries=1)
    def fails_once() -> None:
        batches.append(enqueue_batch(TABLE, queue, key="id", credentials=credentials))
        if len(batches) == 1:
            between()
            raise OSError("once")

    fails_once()
    return batches


@happens("somebody presses Retry on the flow run's page")
def _retry_pressed(
    credentials: SpooledCredentials, queue: str, between: Callable[[], None]
) -> list[SpooledBatch]:
    batches: list[SpooledBatch] = []

    @flow
    def enqueues() -> None:
        batches.append(enqueue_batch(TABLE, queue, key="id", credentials=credentials))

    run = start(enqueues)
    execute(enqueues, run)
    between()
    execute(enqueues, run, retry=True)
    return batches


@happens("a flow whose subflow has enqueued is retried")
def _subflow(
    credentials: SpooledCredentials, queue: str, between: Callable[[], None]
) -> list[SpooledBatch]:
    batches: list[SpooledBatch] = []

    @flow
    def enqueues() -> None:
        batches.append(enqueue_batch(TABLE, queue, key="id", credentials=credentials))

    @flow(retries=1)
    def outer() -> None:
        enqueues()
        if len(batches) == 1:
            between()
            raise OSError("once")

    outer()
    return batches


@happens("the flow was suspended for its batch, and is resumed")
def _resumed(
    credentials: SpooledCredentials, queue: str, between: Callable[[], None]
) -> list[SpooledBatch]:
    batches: list[SpooledBatch] = []

    @flow(persist_result=True)
    def suspends() -> None:
        batches.append(enqueue_batch(TABLE, queue, key="id", credentials=credentials))
        suspend_until_settled(batches[-1], max_failed=10)

    run = start(suspends, deployed=True)
    assert execute(suspends, run).name == "Suspended"
    assert resume_settled_flows() == 0
    between()
    assert resume_settled_flows() == 1
    assert execute(suspends, run).is_completed()
    return batches


@happens("the flow is run once more")
def _run_once_more(
    credentials: SpooledCredentials, queue: str, between: Callable[[], None]
) -> list[SpooledBatch]:
    @flow
    def enqueues() -> SpooledBatch:
        return enqueue_batch(TABLE, queue, key="id", credentials=credentials)

    first = enqueues()
    between()
    return [first, enqueues()]


@happens('the flow is run once more, with `name="orders/2026-01-01"`')
def _named(
    credentials: SpooledCredentials, queue: str, between: Callable[[], None]
) -> list[SpooledBatch]:
    @flow
    def enqueues() -> SpooledBatch:
        name = "orders/2026-01-01"
        return enqueue_batch(TABLE, queue, name=name, key="id", credentials=credentials)

    first = enqueues()
    between()
    return [first, enqueues()]


def rows_of_the_page() -> list[tuple[str, ...]]:
    lines = re.findall(r"^\| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    return [cells for line in lines if len(cells := tuple(line.split(" | "))) == 5][2:]


@pytest.mark.parametrize("row", rows_of_the_page(), ids=lambda row: row[0])
def test_what_finds_its_batch_again(
    row: tuple[str, ...], credentials: SpooledCredentials, client: SpooledClient, queue: str
) -> None:
    what, same, created, duplicates, retried = row
    first, again = HAPPENINGS[what](credentials, queue, lambda: work(client, queue, failed=3))

    assert (first.id == again.id) == (same == "the same")
    counts = tuple(again.record[name] for name in ("created", "duplicates", "retried"))
    assert counts == (int(created), int(duplicates), int(retried))


def test_each_happening_is_on_the_page() -> None:
    assert {row[0] for row in rows_of_the_page()} == set(HAPPENINGS)


# Names.


def test_two_batches_of_one_task_need_names(credentials: SpooledCredentials, queue: str) -> None:
    @flow
    def unnamed() -> None:
        enqueue_batch(TABLE, queue, key="id", credentials=credentials)
        enqueue_batch(TABLE, queue, key="id", credentials=credentials)

    with pytest.raises(InvalidArgumentError, match="give each a name that stays"):
        unnamed()


def test_mapped_batches_have_the_names_they_are_given(
    credentials: SpooledCredentials, client: SpooledClient, queue: str
) -> None:
    @flow
    def mapped() -> None:
        made = [
            enqueue_batch.submit(TABLE, queue, name=f"{queue}/{n}", credentials=credentials)
            for n in ("north", "south")
        ]
        wait(made)

    mapped()
    assert {stats.name for stats in client.batches(queue)} == {f"{queue}/north", f"{queue}/south"}


# What is waited for, and what is shown.


def test_many_waits_of_an_async_flow_hold_no_thread_each(
    credentials: SpooledCredentials, client: SpooledClient
) -> None:
    queues = [f"q-{uuid.uuid4().hex[:12]}" for _ in range(12)]
    waiting: list[int] = []

    @flow
    async def many() -> list[SpooledBatch]:
        made = [
            await aenqueue_batch(TABLE, queue, name=queue, credentials=credentials)
            for queue in queues
        ]
        waits = [asyncio.ensure_future(await_batch(batch)) for batch in made]
        await asyncio.wait(waits, timeout=2)
        before = threading.active_count()
        waits += [asyncio.ensure_future(await_batch(batch)) for batch in made]
        await asyncio.wait(waits, timeout=2)
        waiting.append(threading.active_count() - before)
        for queue in queues:
            await asyncio.to_thread(work, client, queue)
        return await asyncio.gather(*waits)

    assert len(asyncio.run(many())) == 24
    assert waiting[0] < 12


def test_a_run_that_is_suspended_may_allow_jobs_that_did_not_start_in_time(
    credentials: SpooledCredentials, client: SpooledClient, queue: str
) -> None:
    now = datetime.now(timezone.utc)
    due = TABLE.assign(due=[now] + [now + timedelta(days=1)] * 9)
    batch = client.enqueue_batch(due, queue, key="id", expires_at="due")
    eventually(lambda: batch.stats().expired == 1)
    known = SpooledBatch.of(batch.to_dict(), credentials)

    @flow(persist_result=True)
    def suspends(allow_expired: bool) -> None:
        suspend_until_settled(known, allow_expired=allow_expired)

    run = start(suspends, deployed=True, allow_expired=True)
    assert execute(suspends, run).name == "Suspended"
    assert resume_settled_flows() == 0
    work(client, queue)
    assert resume_settled_flows() == 1
    assert execute(suspends, run).is_completed()
    strict = execute(suspends, start(suspends, deployed=True, allow_expired=False))
    assert "1 of them expired" in strict.message


def test_a_run_is_resumed_for_the_batch_that_it_is_suspended_for_now(
    credentials: SpooledCredentials, client: SpooledClient, queue: str
) -> None:
    later = f"{queue}-later"

    @flow(persist_result=True)
    def suspends_twice() -> None:
        for of in (queue, later):
            # Even one that starts over is continued with, and not started over once it is done.
            options: Any = {"key": "id", "on_rerun": "fresh"}
            suspend_until_settled(enqueue_batch(TABLE, of, credentials=credentials, **options))

    run = start(suspends_twice, deployed=True)
    assert execute(suspends_twice, run).name == "Suspended"
    work(client, queue)
    assert resume_settled_flows() == 1
    assert execute(suspends_twice, run).name == "Suspended"
    assert resume_settled_flows() == 0
    work(client, later)
    assert resume_settled_flows() == 1
    assert execute(suspends_twice, run).is_completed()
    assert [client.queue_stats(of).total for of in (queue, later)] == [10, 10]


def test_a_run_is_not_suspended_for_a_batch_that_nobody_else_can_see(
    credentials: SpooledCredentials, queue: str
) -> None:
    @flow
    def suspends() -> None:
        suspend_until_settled(enqueue_batch(TABLE, queue, credentials=unsaved(credentials)))

    with pytest.raises(InvalidArgumentError, match="never saved"):
        suspends()


def test_a_run_shows_progress_and_a_card_with_counts_errors_and_link(
    credentials: SpooledCredentials, client: SpooledClient, queue: str
) -> None:
    @flow
    def waits() -> None:
        batch = enqueue_batch(TABLE, queue, key="id", credentials=credentials)
        work(client, queue, failed=1)
        wait_for_batch(batch, max_failed=1)

    run = start(waits)
    assert execute(waits, run).is_completed()

    shown = artifacts(run)
    assert [a.data for a in shown if a.type == "progress"] == [100.0, 100.0]
    cards = [a.data for a in shown if a.type == "markdown"]
    card = next(card for card in cards if "completed" in card)
    assert "(http://page.example/batches/b_" in card
    assert "| 10 | 9 | 1 | 0 | 0 |" in card
    assert "| 1 | `no ¦ …` |" in card


def test_an_asset_is_materialized_with_the_counts(
    credentials: SpooledCredentials, queue: str
) -> None:
    enqueue_asset = materialize_batch(f"spooled://jobs.example.com/{queue}")

    @flow
    def materializes() -> None:
        enqueue_asset(TABLE, queue, key="id", credentials=credentials)

    materializes()

    def event() -> Any:
        with get_client(sync_client=True) as api:
            wanted = {"filter": {"event": {"prefix": ["prefect.asset.materialization"]}}}
            answer = api._client.post("/events/filter", json=wanted)
        found = [
            e for e in answer.json()["events"] if queue in e["resource"]["prefect.resource.id"]
        ]
        return found[0] if found else None

    found: Any = eventually(event, 60)
    assert found["event"] == "prefect.asset.materialization.succeeded"
    assert (found["payload"]["rows"], found["payload"]["created"]) == (10, 10)


# Cancelling.


def test_a_cancelled_flow_cancels_what_has_not_started(
    credentials: SpooledCredentials,
    client: SpooledClient,
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Prefect's server gives so many artifacts at a time.
    monkeypatch.setattr("spooled_pipelines.prefect.suspension._PER_PAGE", 2)

    @flow(on_cancellation=[cancel_batches])
    def cancelled() -> Any:
        enqueue_batch(TABLE, queue, key="id", credentials=credentials)
        client.complete(client.dequeue(queue, "worker", batch_size=1)[0])
        for name, known in {"b": credentials, "hidden": unsaved(credentials)}.items():
            enqueue_batch(TABLE, queue, name=f"{queue}/{name}", credentials=known)
        return Cancelling()

    run = start(cancelled)
    execute(cancelled, run)
    # Of a deployment the runner does it, outside of the run.
    with get_client(sync_client=True) as api:
        cancel_batches(cancelled, api.read_flow_run(run), Cancelling())
    hidden, other, first = client.batches(queue)
    assert (first.cancelled, first.completed) == (9, 1)
    assert other.cancelled == 10
    # Nobody else has its key, which the log says.
    assert hidden.cancelled == 0


# Secrets, and batches in other processes.


@pytest.mark.parametrize("way", [wait_for_batch, await_batch])
def test_a_batch_of_another_program_is_waited_for_by_its_id(
    way: Any, credentials: SpooledCredentials, client: SpooledClient, queue: str
) -> None:
    made = client.enqueue_batch(TABLE, queue)
    work(client, queue)

    @flow
    def waits() -> Any:
        return way(made.id, credentials=credentials, timeout=60)

    @flow
    async def awaits() -> Any:
        return await way(made.id, credentials=credentials, timeout=60)

    waited = waits() if way is wait_for_batch else asyncio.run(awaits())
    assert (waited.id, len(waited.result()), waited.block) == (made.id, 10, "production")


def test_a_stored_batch_holds_no_key_and_finds_its_block(
    credentials: SpooledCredentials, client: SpooledClient, queue: str
) -> None:
    @flow
    def enqueues() -> SpooledBatch:
        return enqueue_batch(TABLE, queue, key="id", credentials=credentials)

    batch = enqueues()
    for stored in (pickle.dumps(batch), batch.model_dump_json().encode(), repr(batch).encode()):
        assert credentials.api_key.get_secret_value().encode() not in stored
    work(client, queue)

    loaded: SpooledBatch = pickle.loads(pickle.dumps(batch))
    assert loaded.result()["double"].tolist() == [3.0] * 10
    assert asyncio.run(loaded.aresult())["double"].tolist() == [3.0] * 10
    from_json = SpooledBatch.model_validate_json(batch.model_dump_json())
    assert from_json.stats().completed == 10


def test_credentials_that_were_never_saved_are_asked_for_elsewhere(
    server: ServerProcess, queue: str
) -> None:
    unsaved = SpooledCredentials(
        host=server.host, port=server.port, api_key=SecretStr(server.api_key)
    )

    @flow
    def enqueues() -> SpooledBatch:
        return enqueue_batch(TABLE, queue, key="id", credentials=unsaved)

    loaded: SpooledBatch = pickle.loads(pickle.dumps(enqueues()))
    with pytest.raises(InvalidArgumentError, match="never saved"):
        loaded.stats()
    assert loaded.using(unsaved).stats().total == 10


def test_without_credentials_the_environment_says_where_the_server_is(
    server: ServerProcess, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOOLED_GRPC_ADDRESS", server.address)
    monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)

    @flow
    def enqueues() -> SpooledBatch:
        return enqueue_batch(TABLE, queue, key="id")

    assert pickle.loads(pickle.dumps(enqueues())).stats().total == 10


def test_the_block_s_form_hides_the_keys() -> None:
    schema = SpooledCredentials.model_json_schema()
    assert set(schema["secret_fields"]) == {"api_key", "client_key"}
    shown = repr(SpooledCredentials(api_key=SecretStr("sp_live_shown_nowhere")))
    assert "shown_nowhere" not in shown


def artifacts(flow_run_id: uuid.UUID) -> list[Any]:
    with get_client(sync_client=True) as api:
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        return list(api.read_artifacts(artifact_filter=wanted))


def test_the_example_flow_runs(
    credentials: SpooledCredentials, client: SpooledClient, queue: str, tmp_path: Path
) -> None:
    path = tmp_path / "orders.parquet"
    pd.DataFrame({"order_id": range(5), "amount": 2.0}).to_parquet(path)
    with Worker(client, queue, lambda job: {"charged": job.payload["amount"]}):
        reported = prefect_flow.nightly(str(path), queue, "production")
    assert reported["charged"].tolist() == [2.0] * 5
