"""The operator stays until its jobs are done, writes what came of them, and a kill cleans up."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.sdk import DAG, Asset, ObjectStoragePath, task
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem

from spooled_pipelines import SpooledClient
from spooled_pipelines.airflow import (
    BatchResultsOperator,
    EnqueueBatchOperator,
    SpooledHook,
    StreamJobsSensor,
)
from spooled_pipelines.airflow.operators.output_file import write_file
from spooled_pipelines.airflow.platform.versions import (
    AirflowException,
    AirflowFailException,
    AirflowTaskTimeout,
    TaskDeferred,
)
from spooled_pipelines.airflow.triggers import BatchTrigger
from spooled_pipelines.airflow.triggers import batch as batch_trigger
from spooled_pipelines.batch.outcome.ledger import AnyLedger
from spooled_pipelines.errors import SourceError
from tests.support.server_process import ServerProcess

ROWS = [{"id": number} for number in range(4)]
WAYS = [pytest.param(True, id="deferrable"), pytest.param(False, id="in the worker")]


def operator(queue: str, **arguments: Any) -> EnqueueBatchOperator:
    given: dict[str, Any] = {"data": ROWS, "key": "id", "wait_for_completion": True}
    return EnqueueBatchOperator(task_id="enqueue", queue_name=queue, **{**given, **arguments})


async def event_of(trigger: Any) -> dict[str, Any]:
    async for event in trigger.run():
        payload: dict[str, Any] = event.payload
        return payload
    raise AssertionError("the trigger ended without an event")


def run(op: EnqueueBatchOperator, context: Any) -> dict[str, Any]:
    """All that Airflow does: execute, and where that defers, the trigger and the rest."""
    import asyncio

    op.render_template_fields(context)
    try:
        returned: dict[str, Any] = op.execute(context)
        return returned
    except TaskDeferred as deferred:
        path, arguments = deferred.trigger.serialize()
        assert path.endswith("BatchTrigger")
        trigger = BatchTrigger(**json.loads(json.dumps(arguments)))
        event = json.loads(json.dumps(asyncio.run(event_of(trigger))))
        assert len(json.dumps(event)) < 1_500
        op.shown_batch = None
        resumed: dict[str, Any] = op.resume_execution(
            deferred.method_name, {**(deferred.kwargs or {}), "event": event}, context
        )
        return resumed


@contextlib.contextmanager
def hands(client: SpooledClient, queue: str) -> Iterator[None]:
    """Somebody does the jobs of the queue meanwhile; the one whose id is 3 is no good."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.02):
            for job in client.dequeue(queue, "hand", batch_size=100):
                if job.payload["id"] == 3:
                    client.fail(job, "three is no good", retry=False)
                else:
                    client.complete(job, result={"doubled": job.payload["id"] * 2})

    working = threading.Thread(target=work)
    working.start()
    try:
        yield
    finally:
        over.set()
        working.join()


@pytest.mark.parametrize("deferrable", WAYS)
class TestItsEnd:
    def test_it_returns_the_batch_and_the_counts(
        self,
        deferrable: bool,
        connected: ServerProcess,
        client: SpooledClient,
        queue: str,
        context: Any,
    ) -> None:
        op = operator(queue, deferrable=deferrable, max_failed=1)
        with hands(client, queue):
            returned = run(op, context)
        assert (returned["created"], returned["completed"], returned["deadletter"]) == (4, 3, 1)
        assert client.batch(returned).stats().settled
        assert op.shown_batch is not None

    def test_too_many_that_fail_fail_the_task_and_stop_the_rest(
        self,
        deferrable: bool,
        connected: ServerProcess,
        client: SpooledClient,
        queue: str,
        context: Any,
    ) -> None:
        for on_breach, left in (("raise", 3), ("stop", 0)):
            name = f"batch-{on_breach}"
            made = client.enqueue_batch(ROWS, queue, key="id", name=name)
            (job,) = client.dequeue(queue, "hand")
            client.fail(job, "broken", retry=False)
            op = operator(
                queue, deferrable=deferrable, on_breach=on_breach, name=name, on_rerun="resume"
            )
            with pytest.raises(AirflowFailException, match="1 failed") as raised:
                run(op, context)
            assert ("3 that had not started are cancelled" in str(raised.value)) is (left == 0)
            assert made.stats().pending == left
            made.cancel()

    def test_jobs_that_did_not_start_in_time_may_be_allowed(
        self,
        deferrable: bool,
        connected: ServerProcess,
        client: SpooledClient,
        queue: str,
        context: Any,
    ) -> None:
        late = client.enqueue_batch(ROWS, queue, key="id", name="late", ttl=0)
        late.wait(timeout=20, allow_expired=True)
        again: dict[str, Any] = {"deferrable": deferrable, "name": "late", "on_rerun": "resume"}
        with pytest.raises(AirflowFailException, match="4 of them expired"):
            run(operator(queue, **again), context)
        context["params"] = {"allow": True}
        done = run(operator(queue, allow_expired="{{ params.allow }}", **again), context)
        assert done["cancelled"] == 4

    def test_a_wait_that_is_too_long_is_named_and_can_be_tried_again(
        self,
        deferrable: bool,
        connected: ServerProcess,
        client: SpooledClient,
        queue: str,
        context: Any,
    ) -> None:
        op = operator(queue, deferrable=deferrable, wait_timeout=0.3)
        with pytest.raises(AirflowTaskTimeout, match="no worker takes them"):
            run(op, context)
        with hands(client, queue):
            again = run(operator(queue, deferrable=deferrable, max_failed=1), context)
        assert (again["created"], again["completed"]) == (0, 3)

    def test_results_and_ledger_are_written_and_the_assets_told(
        self,
        deferrable: bool,
        connected: ServerProcess,
        client: SpooledClient,
        queue: str,
        context: Any,
        tmp_path: Path,
    ) -> None:
        asset = Asset("done")
        context["outlet_events"] = OutletEventAccessors()
        op = operator(
            queue,
            deferrable=deferrable,
            max_failed=1,
            ledger=str(tmp_path / "{{ run_id }}" / "ledger.parquet"),
            results=(tmp_path / "results.parquet").as_uri(),
            outlets=[asset],
        )
        with hands(client, queue):
            returned = run(op, context)
        ledger = pq.read_table(tmp_path / "run-1" / "ledger.parquet")
        assert ledger.column("outcome").to_pylist() == ["created"] * 4
        results = pq.read_table(returned["results"]).to_pylist()
        assert sorted(row["doubled"] for row in results if row["status"] == "completed") == [
            0,
            2,
            4,
        ]
        extra = context["outlet_events"][asset].extra
        assert extra["batch_id"] == returned["batch_id"]
        assert (extra["queue_name"], extra["created"], extra["completed"]) == (queue, 4, 3)
        assert "three is no good" not in json.dumps([returned, extra])
        # Nothing half written is left behind.
        assert [path.name for path in tmp_path.rglob("*.parquet")].count("results.parquet") == 1
        assert not list(tmp_path.rglob(".*"))


def test_the_trigger_knows_when_time_is_up_counted_from_the_tasks_start(
    connected: ServerProcess, queue: str, context: Any
) -> None:
    began = time.time()
    op = operator(queue, execution_timeout=timedelta(seconds=50), cancel_on_kill=False)
    op.render_template_fields(context)
    with pytest.raises(TaskDeferred) as raised:
        op.execute(context)
    trigger = raised.value.trigger
    assert isinstance(trigger, BatchTrigger)
    assert trigger.deadline is not None
    assert trigger.deadline <= began + 51
    assert trigger.cancel_on_kill is False
    assert connected.api_key not in json.dumps(trigger.serialize())


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("part", [None, "one"])
def test_what_became_of_the_rows_is_never_in_memory_as_a_whole(
    kept: bool,
    part: str | None,
    connected: ServerProcess,
    queue: str,
    context: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of five million rows it would be half a gigabyte.
    monkeypatch.delattr(AnyLedger, "table")
    path = tmp_path / "ledger.parquet"
    op = EnqueueBatchOperator(
        task_id="enqueue",
        data=ROWS,
        queue_name=queue,
        key="id",
        part=part,
        name="n",
        ledger=str(path) if kept else None,
    )
    op.render_template_fields(context)
    assert op.execute(context)["created"] == 4
    assert not kept or pq.read_table(path).num_rows == 4


def test_without_a_wait_the_assets_are_told_at_once(
    connected: ServerProcess, queue: str, context: Any
) -> None:
    asset = Asset("sent")
    context["outlet_events"] = OutletEventAccessors()
    run(operator(queue, wait_for_completion=False, outlets=[asset]), context)
    assert context["outlet_events"][asset].extra["rows"] == 4


# Killed.


def kill_at_the_first_chunk(op: EnqueueBatchOperator) -> None:
    """As a signal does: in the middle of the upload, in its own thread."""
    say = op.log.info

    def info(text: str, *values: Any) -> None:
        say(text, *values)
        if "rows sent" in text and op._guard and not op._guard._killed:
            op.on_kill()

    op.log.info = info  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("cancels", [True, False])
def test_a_task_that_is_killed_while_it_sends_leaves_nothing_to_be_done(
    cancels: bool,
    eventually: Callable[..., object],
    connected: ServerProcess,
    client: SpooledClient,
    queue: str,
    context: Any,
) -> None:
    rows = pd.DataFrame({"id": range(40_000)})
    op = operator(queue, data=rows, wait_for_completion=False, cancel_on_kill=cancels)
    kill_at_the_first_chunk(op)
    with pytest.raises(AirflowException, match="told to end"):
        run(op, context)
    if cancels:
        # The server sees it through, however short the task's time was.
        eventually(lambda: client.queue_stats(queue).pending == 0, 60)
    else:
        assert client.queue_stats(queue).pending > 0
    # Run again, everything is there once, and everything is to be done.
    again = run(operator(queue, data=rows, wait_for_completion=False), context)
    assert again["created"] + again["duplicates"] == 40_000
    stats = client.batch(again).stats()
    assert (stats.pending, stats.cancelled, stats.total) == (40_000, 0, 40_000)


def test_a_task_whose_time_is_up_while_it_sends_is_cleaned_up_after(
    eventually: Callable[..., object],
    connected: ServerProcess,
    client: SpooledClient,
    queue: str,
    context: Any,
) -> None:
    def rows() -> list[dict[str, Any]]:
        return [{"id": number} for number in range(3)]

    op = operator(queue, data=rows, deferrable=False)
    say = op.log.info

    def info(text: str, *values: Any) -> None:
        say(text, *values)
        if "jobs created" in text:
            # What Airflow's alarm does, wherever the task is.
            raise AirflowTaskTimeout("Timeout")

    op.log.info = info  # type: ignore[method-assign, assignment]
    with pytest.raises(AirflowTaskTimeout):
        run(op, context)
    assert client.queue_stats(queue).pending == 3
    op.on_kill()
    eventually(lambda: client.queue_stats(queue).pending == 0)


@pytest.mark.parametrize("cancels", [True, False])
def test_a_sensor_that_is_killed_cancels_where_it_is_told_to(
    cancels: bool,
    connected: ServerProcess,
    client: SpooledClient,
    queue: str,
    context: Any,
) -> None:
    made = client.enqueue_batch(ROWS, queue, key="id").to_dict()
    op = StreamJobsSensor(task_id="wait", batch=[made], deferrable=False, cancel_on_kill=cancels)
    op.on_kill()
    assert not op.poke(context).is_done
    op.on_kill()
    assert client.batch(made).stats().pending == (0 if cancels else 4)


def test_a_task_that_is_through_cancels_nothing(
    connected: ServerProcess, client: SpooledClient, queue: str, context: Any
) -> None:
    op = operator(queue, wait_for_completion=False)
    made = run(op, context)
    op.on_kill()
    assert client.batch(made).stats().pending == 4


def test_the_configuration_says_whether_a_kill_cancels(
    queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert operator(queue)._cancels_on_kill() is True
    monkeypatch.setenv("AIRFLOW__SPOOLED__CANCEL_ON_KILL", "False")
    assert operator(queue)._cancels_on_kill() is False
    assert operator(queue, cancel_on_kill=True)._cancels_on_kill() is True


class TestATriggerWhoseTaskIsActedOn:
    @pytest.fixture
    def made(self, connected: ServerProcess, client: SpooledClient, queue: str) -> dict[str, Any]:
        batch = client.enqueue_batch(ROWS, queue, key="id", name="killed")
        made: dict[str, Any] = batch.to_dict()
        return made

    @pytest.fixture
    def task_is(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
        """What Airflow says the task's state is now; its database is not here."""

        def task_is(state: Any) -> None:
            monkeypatch.setattr(batch_trigger, "_task_state", lambda task_instance, log: state)

        return task_is

    @pytest.mark.parametrize("state", ["failed", "success", "skipped", "removed", None])
    async def test_cancels_what_has_not_started_where_the_task_is_over(
        self,
        state: Any,
        made: dict[str, Any],
        client: SpooledClient,
        task_is: Callable[[Any], None],
    ) -> None:
        task_is(state)
        await BatchTrigger(made, cancel_on_kill=True).on_kill()
        assert client.batch(made).stats().cancelled == 4

    @pytest.mark.parametrize("state", ["", "scheduled", "queued", "running", "deferred"])
    async def test_leaves_them_alone_where_the_task_is_to_run_again(
        self,
        state: str,
        made: dict[str, Any],
        client: SpooledClient,
        task_is: Callable[[Any], None],
    ) -> None:
        task_is(state)
        await BatchTrigger(made, cancel_on_kill=True).on_kill()
        assert client.batch(made).stats().pending == 4

    async def test_cancels_nothing_of_a_newer_generation(
        self,
        made: dict[str, Any],
        client: SpooledClient,
        queue: str,
        task_is: Callable[[Any], None],
    ) -> None:
        task_is("failed")
        client.enqueue_batch(ROWS, queue, key="id", name="killed", on_rerun="fresh")
        await BatchTrigger(made, cancel_on_kill=True).on_kill()
        stats = client.batch(made["batch_id"]).stats()
        assert (stats.generation, stats.pending) == (1, 4)

    async def test_cancels_nothing_unless_it_is_asked_to(
        self, made: dict[str, Any], client: SpooledClient, task_is: Callable[[Any], None]
    ) -> None:
        task_is("failed")
        await BatchTrigger(made).on_kill()
        trigger = BatchTrigger(made, cancel_on_kill=True)
        await trigger.cleanup()
        assert client.batch(made).stats().pending == 4

    async def test_says_so_where_the_server_is_away(
        self,
        made: dict[str, Any],
        connect_airflow: Callable[..., None],
        task_is: Callable[[Any], None],
    ) -> None:
        task_is("failed")
        connect_airflow()
        said: list[str] = []
        trigger = BatchTrigger(made, cancel_on_kill=True)
        trigger.log.warning = lambda text, *values: said.append(text % values)  # type: ignore[method-assign]
        await trigger.on_kill()
        assert "could not be cancelled" in said[0]

    def test_finds_out_what_became_of_the_task(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=3)
        for answer, state in (
            ({"r": {"t_3": "failed"}}, "failed"),
            ({"r": {"t_3": None}}, ""),
            ({}, "removed"),
        ):
            monkeypatch.setattr(
                RuntimeTaskInstance, "get_task_states", staticmethod(lambda a=answer, **_: a)
            )
            assert batch_trigger._task_state(ti, None) == state


# Results.


class TestResults:
    @pytest.fixture
    def done(self, connected: ServerProcess, client: SpooledClient, queue: str) -> dict[str, Any]:
        batch = client.enqueue_batch(ROWS, queue, key="id")
        with hands(client, queue):
            batch.wait(timeout=60, max_failed=1)
        done: dict[str, Any] = batch.to_dict()
        return done

    def test_a_small_table_is_returned(self, done: dict[str, Any], context: Any) -> None:
        rows = BatchResultsOperator(task_id="r", batch=done).execute(context)
        assert isinstance(rows, list)
        assert sorted(row["status"] for row in rows) == ["completed"] * 3 + ["deadletter"]
        assert json.loads(json.dumps(rows)) == rows

    def test_one_that_is_too_large_is_refused_with_the_way_out(
        self, done: dict[str, Any], context: Any
    ) -> None:
        with pytest.raises(AirflowFailException, match=r"4 rows are too many.*path="):
            BatchResultsOperator(task_id="r", batch=done, max_rows=3).execute(context)

    def test_they_are_written_where_that_is_said(
        self, done: dict[str, Any], context: Any, tmp_path: Path
    ) -> None:
        asset = Asset("results")
        context["outlet_events"] = OutletEventAccessors()
        path = tmp_path / "deep" / "r.parquet"
        op = BatchResultsOperator(
            task_id="r", batch=[done, done["batch_id"]], path=str(path), max_rows=1, outlets=[asset]
        )
        assert op.execute(context) == {"path": str(path), "rows": 4}
        assert pq.read_table(path).num_rows == 4
        assert context["outlet_events"][asset].extra["rows"] == 4

    def test_several_batches_are_one_file_with_the_columns_of_each(
        self,
        done: dict[str, Any],
        client: SpooledClient,
        queue: str,
        context: Any,
        tmp_path: Path,
    ) -> None:
        other = client.enqueue_batch([{"id": 7}], queue, key="id", name="other")
        (job,) = client.dequeue(queue, "hand")
        client.complete(job, result={"doubled": 14.5, "note": "by hand"})
        path = str(tmp_path / "r.parquet")
        op = BatchResultsOperator(task_id="r", batch=[done, other.to_dict()], path=path)
        assert cast("dict[str, Any]", op.execute(context))["rows"] == 5
        found = pq.read_table(path).to_pylist()
        assert sorted(row["doubled"] for row in found if row["status"] == "completed") == [
            *(0, 2, 4),
            14.5,
        ]
        assert [row["note"] for row in found] == [None] * 4 + ["by hand"]

    def test_a_batch_that_is_not_there_fails_the_task_for_good(
        self, connected: ServerProcess, context: Any
    ) -> None:
        with pytest.raises(AirflowFailException, match="b_nosuchbatch"):
            BatchResultsOperator(task_id="r", batch="b_nosuchbatch").execute(context)


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_what_breaks_off_while_it_is_written_is_not_there(scheme: str, tmp_path: Path) -> None:
    attach(protocol="memory", fs=MemoryFileSystem())
    schema = pa.schema([("n", pa.int64())])

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([pa.array([1])], schema=schema)
        raise OSError("the disk is gone")

    where = ObjectStoragePath(f"{scheme}://{tmp_path}/r.parquet")
    with pytest.raises(SourceError, match="cannot be written: the disk is gone"):
        write_file(pa.RecordBatchReader.from_batches(schema, batches()), where)
    assert not where.exists()
    whole = pa.table({"n": [1, 2]}).to_reader()
    assert write_file(whole, where).rows == 2
    assert where.exists()


# Setup and teardown.


def test_a_teardown_cancels_what_a_setup_has_enqueued(
    connected: ServerProcess, client: SpooledClient, queue: str, context: Any
) -> None:
    with DAG("d", schedule=None) as dag:
        enqueue = EnqueueBatchOperator(
            task_id="enqueue", data=ROWS, queue_name=queue, key="id"
        ).as_setup()

        @task
        def use(batch: Any) -> None: ...

        @task
        def clean_up(batch: Any) -> int:
            with SpooledHook().get_conn() as client:
                return client.batch(batch).cancel().cancelled

        use(enqueue.output) >> clean_up(enqueue.output).as_teardown(setups=enqueue)
    op = dag.get_task("enqueue")
    assert isinstance(op, EnqueueBatchOperator)
    assert op.is_setup
    assert dag.get_task("clean_up").upstream_task_ids == {"enqueue", "use"}
    made = run(op, context)
    assert clean_up.function(made) == 4
    assert client.batch(made).stats().settled
