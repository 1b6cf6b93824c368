"""Runs of real Dagster jobs: what finds its batch again, what is shown, what a sensor starts."""

import importlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import pandas as pd
import pytest

from spooled_pipelines import SpooledClient
from spooled_pipelines.dagster import RunBatch, SpooledResource, settled_batch_sensor
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.worker import Worker
from tests.support.server_process import ServerProcess

dagster_assets = importlib.import_module("examples.dagster_assets")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "from-dagster.md"
TABLE = pd.DataFrame({"id": range(10), "amount": 1.5})
PARTITIONS = dg.StaticPartitionsDefinition(["north", "south"])


class Case:
    """What the jobs below are to do, and the batches that they have enqueued."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.name: str | None = None
        self.on_rerun: Literal["retry_failed", "fresh"] = "retry_failed"
        self.batches: list[RunBatch] = []
        # Called by the op once it has enqueued for the first time; what it raises fails the op.
        self.afterwards: Callable[[], None] | None = None
        self.max_failed: float | None = None
        self.metadata: dict[str, Any] = {}


# An op is found by its module, and takes no argument that is not a Dagster value.
_case: list[Case] = []


@dg.op(required_resource_keys={"spooled"}, retry_policy=dg.RetryPolicy(max_retries=1))
def enqueue(context: dg.OpExecutionContext) -> None:
    (case,) = _case
    spooled: SpooledResource = context.resources.spooled
    how: Any = {"name": case.name, "on_rerun": case.on_rerun}
    batch = spooled.enqueue_batch(context, TABLE, case.queue, key="id", **how)
    case.batches.append(batch)
    if case.afterwards is not None:
        afterwards, case.afterwards = case.afterwards, None
        afterwards()
    if case.max_failed is not None:
        case.metadata = batch.metadata(batch.wait(max_failed=case.max_failed))


RESOURCE = SpooledResource(
    host=dg.EnvVar("TESTS_SPOOLED_HOST"),
    port=dg.EnvVar.int("TESTS_SPOOLED_PORT"),
    api_key=dg.EnvVar("TESTS_SPOOLED_KEY"),
    page="http://page.example",
)


@dg.job(executor_def=dg.in_process_executor, resource_defs={"spooled": RESOURCE})
def enqueues() -> None:
    enqueue()


@dg.asset(partitions_def=PARTITIONS)
def partitioned(context: dg.AssetExecutionContext, spooled: SpooledResource) -> None:
    (case,) = _case
    case.batches.append(spooled.enqueue_batch(context, TABLE, case.queue, key="id"))


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    folder = tmp_path_factory.mktemp("dagster")
    overrides = {"telemetry": {"enabled": False}}
    with dg.DagsterInstance.local_temp(str(folder), overrides=overrides) as made:
        yield made


@pytest.fixture
def case(server: ServerProcess, queue: str, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setenv("TESTS_SPOOLED_HOST", server.host)
    monkeypatch.setenv("TESTS_SPOOLED_PORT", str(server.port))
    monkeypatch.setenv("TESTS_SPOOLED_KEY", server.api_key)
    made = Case(queue)
    _case[:] = [made]
    return made


def work(client: SpooledClient, queue: str, *, failed: int = 0) -> None:
    """Settle every job of the queue; the first `failed` fail."""
    while jobs := client.dequeue(queue, "worker", batch_size=100):
        for job in jobs:
            if job.payload["id"] < failed:
                client.fail(job, "no such customer\n  in line 3", retry=False)
            else:
                client.complete(job, result={"double": job.payload["amount"] * 2})


def execute(instance: dg.DagsterInstance, again: str | None = None) -> str:
    """Run the job, or execute the run of this id again; return the run's id."""
    options = None if again is None else dg.ReexecutionOptions(parent_run_id=again)
    with dg.execute_job(
        dg.reconstructable(enqueues), instance=instance, reexecution_options=options
    ) as result:
        return str(result.run_id)


# What finds its batch again: each row of the page's table.

Happening = Callable[[dg.DagsterInstance, Case, Callable[[], None]], None]
HAPPENINGS: dict[str, Happening] = {}


def happens(what: str) -> Callable[[Happening], Happening]:
    def keep(happening: Happening) -> Happening:
        HAPPENINGS[what] = happening
        return happening

    return keep


@happens("the op is retried (`RetryPolicy`)")
def _op_retried(instance: dg.DagsterInstance, case: Case, between: Callable[[], None]) -> None:
    def fail() -> None:
        between()
        raise OSError("once")

    case.afterwards = fail
    execute(instance)


@happens("the run is executed again from failure")
def _from_failure(instance: dg.DagsterInstance, case: Case, between: Callable[[], None]) -> None:
    first = execute(instance)
    between()
    execute(instance, again=first)


@happens("the re-execution is executed again")
def _twice(instance: dg.DagsterInstance, case: Case, between: Callable[[], None]) -> None:
    second = execute(instance, again=execute(instance))
    between()
    execute(instance, again=second)
    del case.batches[1]


@happens("the job or asset is run once more")
def _once_more(instance: dg.DagsterInstance, case: Case, between: Callable[[], None]) -> None:
    execute(instance)
    between()
    execute(instance)


@happens("the same partition is materialized once more")
def _partition(instance: dg.DagsterInstance, case: Case, between: Callable[[], None]) -> None:
    materialize(instance, "north")
    between()
    materialize(instance, "north")


@happens("another partition is materialized")
def _other(instance: dg.DagsterInstance, case: Case, between: Callable[[], None]) -> None:
    materialize(instance, "north")
    between()
    materialize(instance, "south")


@happens('the job is run once more, with `name="orders/2026-01-01"`')
def _named(instance: dg.DagsterInstance, case: Case, between: Callable[[], None]) -> None:
    case.name = "orders/2026-01-01"
    _once_more(instance, case, between)


def materialize(instance: dg.DagsterInstance, partition: str) -> None:
    dg.materialize(
        [partitioned], instance=instance, partition_key=partition, resources={"spooled": RESOURCE}
    )


def rows_of_the_page() -> list[tuple[str, ...]]:
    lines = re.findall(r"^\| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    return [cells for line in lines if len(cells := tuple(line.split(" | "))) == 5][2:]


@pytest.mark.parametrize("row", rows_of_the_page(), ids=lambda row: row[0])
def test_what_finds_its_batch_again(
    row: tuple[str, ...], instance: dg.DagsterInstance, case: Case, client: SpooledClient
) -> None:
    what, same, created, duplicates, retried = row
    HAPPENINGS[what](instance, case, lambda: work(client, case.queue, failed=3))
    first, again = case.batches

    assert (first.id == again.id) == (same == "the same")
    counts = tuple(again.record[name] for name in ("created", "duplicates", "retried"))
    assert counts == (int(created), int(duplicates), int(retried))


def test_each_happening_is_on_the_page() -> None:
    assert {row[0] for row in rows_of_the_page()} == set(HAPPENINGS)


def test_mapped_outputs_have_batches_of_their_own(
    instance: dg.DagsterInstance, case: Case, client: SpooledClient
) -> None:
    @dg.op(out=dg.DynamicOut())
    def regions() -> Iterator[dg.DynamicOutput[str]]:
        for region in ("north", "south"):
            yield dg.DynamicOutput(region, mapping_key=region)

    @dg.op(required_resource_keys={"spooled"})
    def fan_out(context: dg.OpExecutionContext, region: str) -> None:
        context.resources.spooled.enqueue_batch(context, TABLE, case.queue, key="id")

    @dg.job(resource_defs={"spooled": RESOURCE})
    def mapped() -> None:
        regions().map(fan_out)

    assert mapped.execute_in_process(instance=instance).success
    assert len(client.batches(case.queue)) == 2


# What is shown.


def test_metadata_says_counts_errors_columns_and_where_to_look(
    instance: dg.DagsterInstance, case: Case, client: SpooledClient
) -> None:
    case.afterwards = lambda: work(client, case.queue, failed=1)
    case.max_failed = 1
    run_id = execute(instance)

    found = {name: value.value for name, value in case.metadata.items()}
    assert found["spooled/batch"] == f"http://page.example/batches/{case.batches[0].id}"
    assert (found["spooled/completed"], found["spooled/deadletter"]) == (9, 1)
    assert found["spooled/errors"].records[0].data == {"error": "no such customer", "jobs": 1}
    columns = {column.name: column.type for column in found["dagster/column_schema"].columns}
    assert columns == {"id": "int64", "amount": "double"}

    logged = [event.user_message for event in instance.all_logs(run_id)]
    assert any("9 of 10 jobs completed, 1 failed" in line for line in logged)
    assert not [line for line in logged if os.environ["TESTS_SPOOLED_KEY"] in line]


def test_another_op_waits_for_the_batch_by_its_record(
    instance: dg.DagsterInstance, case: Case, client: SpooledClient
) -> None:
    results: list[pd.DataFrame] = []

    @dg.op(required_resource_keys={"spooled"})
    def enqueue_first(context: dg.OpExecutionContext) -> dict[str, Any]:
        batch = context.resources.spooled.enqueue_batch(context, TABLE, case.queue, key="id")
        work(client, case.queue)
        return dict(batch.record)

    @dg.op(required_resource_keys={"spooled"})
    def wait_then(context: dg.OpExecutionContext, record: dict[str, Any]) -> None:
        batch = context.resources.spooled.batch(context, record)
        batch.wait()
        results.append(batch.results())

    @dg.job(resource_defs={"spooled": RESOURCE})
    def two_ops() -> None:
        wait_then(enqueue_first())

    assert two_ops.execute_in_process(instance=instance).success
    assert results[0]["double"].tolist() == [3.0] * 10


def test_a_batch_of_somebody_else_is_known_by_its_id(
    case: Case, server: ServerProcess, client: SpooledClient
) -> None:
    batch = client.enqueue_batch(TABLE, case.queue)
    spooled = SpooledResource(host=server.host, port=server.port, api_key=server.api_key)
    known = spooled.batch(dg.build_op_context(), batch.id)

    assert known.metadata()["spooled/open"].value == 10
    assert batch.id in repr(known)
    assert len(known.results()) == 10


def test_a_second_batch_of_one_op_needs_a_name(
    instance: dg.DagsterInstance, case: Case, client: SpooledClient
) -> None:
    @dg.op(required_resource_keys={"spooled"})
    def enqueues_twice(context: dg.OpExecutionContext) -> None:
        enqueue = context.resources.spooled.enqueue_batch
        with pytest.raises(InvalidArgumentError, match="no column"):
            enqueue(context, TABLE, case.queue, key="nothing")
        # The one before has sent nothing.
        enqueue(context, TABLE, case.queue, key="id")
        with pytest.raises(InvalidArgumentError, match="give each a name that stays"):
            enqueue(context, TABLE.assign(amount=2), case.queue, key="id")
        enqueue(context, TABLE.assign(amount=2), case.queue, key="id", name=f"{case.queue}/2")

    @dg.job(resource_defs={"spooled": RESOURCE})
    def twice() -> None:
        enqueues_twice()

    assert twice.execute_in_process(instance=instance).success
    assert client.queue_stats(case.queue).pending == 20


def test_a_retry_of_an_op_continues_with_what_its_run_has_started_over(
    instance: dg.DagsterInstance, case: Case, client: SpooledClient
) -> None:
    case.name, case.on_rerun = f"{case.queue}/fresh", "fresh"

    def fail() -> None:
        raise OSError("once")

    for run in (1, 2):
        case.afterwards = fail
        execute(instance)
        assert client.queue_stats(case.queue).total == 10 * run
    assert [batch.record["generation"] for batch in case.batches] == [0, 0, 1, 1]


def test_an_asset_check_and_a_test_without_a_run_enqueue_too(
    instance: dg.DagsterInstance, case: Case, server: ServerProcess
) -> None:
    spooled = SpooledResource(host=server.host, port=server.port, api_key=server.api_key)

    @dg.asset(partitions_def=PARTITIONS)
    def called(context: dg.AssetExecutionContext, spooled: SpooledResource) -> Any:
        return spooled.enqueue_batch(context, TABLE, case.queue, key="id").record["created"]

    assert called(dg.build_asset_context(partition_key="north"), spooled) == 10
    assert called(dg.build_asset_context(partition_key="north"), spooled) == 0

    @dg.op
    def called_op(context: dg.OpExecutionContext, spooled: SpooledResource) -> Any:
        return spooled.enqueue_batch(context, TABLE, case.queue, key="id").record["created"]

    assert [called_op(dg.build_op_context(), spooled) for _ in range(2)] == [10, 10]

    @dg.asset
    def checked() -> None: ...

    @dg.asset_check(asset=checked)
    def check(context: dg.AssetCheckExecutionContext, spooled: SpooledResource) -> Any:
        batch = spooled.enqueue_batch(context, TABLE, case.queue, key="id")
        return dg.AssetCheckResult(passed=True, metadata=batch.metadata())

    whole = dg.Definitions([checked], asset_checks=[check], resources={"spooled": spooled})
    job = whole.resolve_implicit_global_asset_job_def()
    (evaluated,) = job.execute_in_process(instance=instance).get_asset_check_evaluations()
    assert evaluated.metadata["spooled/created"].value == 10


def test_a_terminated_run_cancels_what_has_not_started(
    instance: dg.DagsterInstance, case: Case, client: SpooledClient
) -> None:
    def terminate() -> None:
        raise KeyboardInterrupt

    @dg.op(required_resource_keys={"spooled"})
    def waits(context: dg.OpExecutionContext) -> None:
        batch = context.resources.spooled.enqueue_batch(context, TABLE, case.queue, key="id")
        client.complete(client.dequeue(case.queue, "worker", batch_size=1)[0])
        with pytest.MonkeyPatch.context() as patch:
            # What a signal raises wherever the op happens to be.
            patch.setattr("spooled_pipelines.Batch.wait", lambda *_: terminate())
            batch.wait()

    @dg.job(resource_defs={"spooled": RESOURCE})
    def waiting() -> None:
        waits()

    with pytest.raises((KeyboardInterrupt, dg.DagsterExecutionInterruptedError)):
        waiting.execute_in_process(instance=instance)
    (stats,) = client.batches(case.queue)
    assert (stats.cancelled, stats.completed) == (9, 1)


# The sensor.


def test_a_settled_batch_starts_one_run(
    instance: dg.DagsterInstance, case: Case, client: SpooledClient
) -> None:
    past = client.enqueue_batch(TABLE, case.queue, name="past")
    work(client, case.queue)
    open_before = client.enqueue_batch(TABLE, case.queue, name="open before")
    sensor = settled_batch_sensor("settled", case.queue, target=enqueues)
    cursor: list[str | None] = [None]

    def look() -> list[str]:
        with dg.build_sensor_context(
            instance, cursor=cursor[0], resources={"spooled": RESOURCE}
        ) as context:
            data = sensor.evaluate_tick(context)
        cursor[0] = data.cursor
        return [request.tags["spooled/batch_id"] for request in data.run_requests or ()]

    assert look() == []
    assert look() == []
    new = client.enqueue_batch(TABLE, case.queue, name="new")
    assert look() == []
    work(client, case.queue, failed=1)
    assert sorted(look()) == sorted([open_before.id, new.id])
    assert look() == []
    later = [client.enqueue_batch(TABLE, case.queue, name=f"later {n}") for n in range(3)]
    work(client, case.queue)
    assert sorted(look()) == sorted(batch.id for batch in later)
    assert past.id not in (cursor[0] or "")
    # What is retried starts nothing; what is started over is another generation.
    client.enqueue_batch(TABLE, case.queue, name="new", on_rerun="retry_failed")
    for name in ("later 1", "later 2"):
        client.enqueue_batch(TABLE, case.queue, name=name, on_rerun="fresh")
    assert look() == []
    # One that the sensor knows as open.
    client.enqueue_batch(TABLE, case.queue, name="later 2", on_rerun="fresh")
    work(client, case.queue)
    assert sorted(look()) == sorted([later[1].id, later[2].id])
    # The newest of all.
    client.enqueue_batch(TABLE, case.queue, name="later 2", on_rerun="fresh")
    work(client, case.queue)
    assert look() == [later[2].id]
    assert look() == []


def test_a_run_request_is_the_user_s_own_with_our_key(
    instance: dg.DagsterInstance, case: Case, client: SpooledClient
) -> None:
    sensor = settled_batch_sensor(
        "settled",
        case.queue,
        target=enqueues,
        run_request=lambda stats: dg.RunRequest(run_key="theirs", tags={"mine": stats.name}),
    )
    with dg.build_sensor_context(instance, resources={"spooled": RESOURCE}) as context:
        cursor = sensor.evaluate_tick(context).cursor
    batch = client.enqueue_batch(TABLE, case.queue, name="north")
    work(client, case.queue)
    looks = dg.build_sensor_context(instance, cursor=cursor, resources={"spooled": RESOURCE})
    with looks as context:
        (request,) = sensor.evaluate_tick(context).run_requests or ()
    assert request.run_key == f"{batch.id}/0"
    assert request.tags["mine"] == "north"
    assert request.tags["spooled/batch_id"] == batch.id


def test_the_example_assets_are_materialized_and_its_sensor_looks(
    instance: dg.DagsterInstance,
    case: Case,
    client: SpooledClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dagster_assets, "QUEUE", case.queue)
    with Worker(client, case.queue, lambda job: {"charged": job.payload["amount"]}):
        result = dg.materialize(
            [dagster_assets.orders, dagster_assets.charges],
            instance=instance,
            partition_key="2026-01-01",
            resources={"spooled": RESOURCE},
        )
    charged = result.output_for_node("charges")
    assert charged["charged"].tolist() == [9.5] * 100
    (made,) = result.asset_materializations_for_node("charges")
    assert made.metadata["spooled/completed"].value == 100
