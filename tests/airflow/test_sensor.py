"""The sensor passes when the batch is done, in every mode, and says why where it does not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from airflow.sdk import DAG, task

from spooled_pipelines import SpooledClient
from spooled_pipelines.airflow import EnqueueBatchOperator, StreamJobsSensor
from spooled_pipelines.airflow.platform.versions import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)
from spooled_pipelines.airflow.triggers import BatchTrigger
from spooled_pipelines.errors import AuthenticationError, InvalidArgumentError
from spooled_pipelines.orchestration.progress_log import ProgressLogger
from spooled_pipelines.types import QueueStats
from tests.support.airflow_versions import AirflowRescheduleException
from tests.support.server_process import ServerProcess

Made = dict[str, Any]
MODES = [
    pytest.param({"deferrable": True}, id="deferrable"),
    pytest.param({"deferrable": False}, id="poke"),
    pytest.param({"deferrable": False, "mode": "reschedule"}, id="reschedule"),
]


@pytest.fixture
def made(connected: ServerProcess, client: SpooledClient, queue: str) -> Made:
    """A batch of four jobs that nobody has done yet."""
    frame = pd.DataFrame({"id": range(4), "text": "marked-row"})
    made: Made = client.enqueue_batch(frame, queue, key="id").to_dict()
    return made


@pytest.fixture
def settle(client: SpooledClient, queue: str) -> Callable[..., None]:
    """`settle(completed, failed)`: does that many jobs of the queue."""

    def settle(completed: int = 0, failed: int = 0, error: str = "ValueError: no") -> None:
        jobs = client.dequeue(queue, "hand", batch_size=completed + failed)
        assert len(jobs) == completed + failed
        for job in jobs[:completed]:
            client.complete(job, result={"ok": True})
        for job in jobs[completed:]:
            client.fail(job, error, retry=False)

    return settle


def sensor(batch: Any, **arguments: Any) -> StreamJobsSensor:
    return StreamJobsSensor(task_id="wait", batch=batch, poke_interval=0.05, **arguments)


@pytest.fixture
def reschedulable(context: Any) -> dict[str, Any]:
    context["ti"].get_first_reschedule_date = lambda _: None
    return context


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_that_is_done_passes_at_once_with_its_statistics(
    mode: dict[str, Any],
    made: Made,
    settle: Callable[..., None],
    reschedulable: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settle(completed=4)
    done = sensor(made, **mode)
    said: list[str] = []
    monkeypatch.setattr(done.log, "info", lambda text, *values: said.append(text % values))
    stats = done.execute(reschedulable)
    assert any("4 of 4 jobs completed" in line for line in said)
    assert stats["batch_id"] == made["batch_id"]
    assert (stats["total"], stats["completed"], stats["deadletter"]) == (4, 4, 0)
    assert stats["settled"] is True
    assert json.loads(json.dumps(stats)) == stats


@pytest.mark.parametrize("mode", MODES)
def test_an_id_alone_will_do(
    mode: dict[str, Any], made: Made, settle: Callable[..., None], reschedulable: Any
) -> None:
    settle(completed=4)
    assert sensor(made["batch_id"], **mode).execute(reschedulable)["completed"] == 4


@pytest.mark.parametrize("mode", MODES)
def test_failed_jobs_fail_the_task_for_good_with_their_errors_named(
    mode: dict[str, Any], made: Made, settle: Callable[..., None], reschedulable: Any
) -> None:
    settle(completed=2, failed=2)
    with pytest.raises(AirflowFailException, match="2 × ValueError: no") as raised:
        sensor(made, **mode).execute(reschedulable)
    assert "of 4 jobs 2 failed" in str(raised.value)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("allowed", [2, 0.5])
def test_as_many_may_fail_as_is_allowed(
    allowed: float,
    mode: dict[str, Any],
    made: Made,
    settle: Callable[..., None],
    reschedulable: Any,
) -> None:
    settle(completed=2, failed=2)
    stats = sensor(made, max_failed=allowed, **mode).execute(reschedulable)
    assert (stats["completed"], stats["deadletter"]) == (2, 2)
    # Error texts may quote rows, and XCom is for all to read.
    assert "ValueError" not in json.dumps(stats)


@pytest.mark.parametrize("mode", MODES)
def test_jobs_that_did_not_start_in_time_may_be_allowed(
    mode: dict[str, Any], made: Made, client: SpooledClient, queue: str, reschedulable: Any
) -> None:
    late = client.enqueue_batch([{"n": 1}], f"{queue}-late", ttl=0)
    late.wait(timeout=20, allow_expired=True)
    with pytest.raises(AirflowFailException, match="1 of them expired"):
        sensor(late.to_dict(), **mode).execute(reschedulable)
    for allowed in (True, "{{ params.allow }}"):
        op = sensor(late.to_dict(), allow_expired=allowed, **mode)
        reschedulable["params"] = {"allow": True}
        op.render_template_fields(reschedulable)
        assert op.execute(reschedulable)["cancelled"] == 1
    op = sensor(late.to_dict(), allow_expired="{{ not params.allow }}", **mode)
    op.render_template_fields(reschedulable)
    with pytest.raises(AirflowFailException, match="1 of them expired"):
        op.execute(reschedulable)
    with pytest.raises(InvalidArgumentError, match="allow_expired must be True or False"):
        sensor(late.to_dict(), allow_expired="yes", **mode)


@pytest.mark.parametrize("mode", MODES)
def test_it_fails_as_soon_as_that_is_certain(
    mode: dict[str, Any], made: Made, settle: Callable[..., None], reschedulable: Any
) -> None:
    settle(failed=1)
    with pytest.raises(AirflowFailException, match="3 are still open"):
        sensor(made, **mode).execute(reschedulable)


@pytest.mark.parametrize("mode", MODES)
def test_soft_fail_makes_a_skip_of_it(
    mode: dict[str, Any], made: Made, settle: Callable[..., None], reschedulable: Any
) -> None:
    settle(failed=1)
    with pytest.raises(AirflowSkipException):
        sensor(made, soft_fail=True, **mode).execute(reschedulable)


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_that_is_not_there_fails_the_task_for_good(
    mode: dict[str, Any], connected: ServerProcess, reschedulable: Any
) -> None:
    with pytest.raises(AirflowFailException, match="b_nosuchbatch"):
        sensor("b_nosuchbatch", **mode).execute(reschedulable)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("batch", [{}, {"rows": 3}, [["b_1"], 7], 7])
def test_what_is_no_batch_fails_the_task_for_good(
    batch: Any, mode: dict[str, Any], connected: ServerProcess, reschedulable: Any
) -> None:
    with pytest.raises(AirflowFailException, match=r"enqueue\.output"):
        sensor(batch, **mode).execute(reschedulable)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("nothing", [None, [], [None, []]])
def test_no_batch_at_all_passes_skips_or_fails_as_on_empty_says(
    nothing: Any, mode: dict[str, Any], connected: ServerProcess, reschedulable: Any
) -> None:
    def executed(on_empty: Any) -> Any:
        op = sensor("b_1", on_empty=on_empty, **mode)
        # What Airflow renders a reference to a skipped task, or to none, as.
        op.batch = nothing
        return op.execute(reschedulable)

    assert executed("success")["total"] == 0
    with pytest.raises(AirflowSkipException, match="does the one that enqueues push its XCom"):
        executed("skip")
    with pytest.raises(AirflowFailException, match="There is no batch to wait for"):
        executed("fail")
    with pytest.raises(InvalidArgumentError, match="on_empty must be"):
        sensor("b_1", on_empty="pass")


@pytest.mark.parametrize("mode", MODES)
def test_a_wrong_key_is_an_error_that_a_retry_may_clear(
    mode: dict[str, Any],
    made: Made,
    server: ServerProcess,
    connect_airflow: Callable[..., None],
    reschedulable: Any,
) -> None:
    connect_airflow(server, password="sp_test_thisoneiswrong")
    with pytest.raises(AuthenticationError) as raised:
        sensor(made, **mode).execute(reschedulable)
    assert "sp_test_thisoneiswrong" not in str(raised.value)


@pytest.mark.parametrize("wrong", [-1, 1.5, "all"])
def test_a_max_failed_that_makes_no_sense_is_refused_with_the_dag(wrong: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="max_failed"):
        sensor("b_1", max_failed=wrong)


# Deferred.


def deferred(op: StreamJobsSensor, context: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as raised:
        op.execute(context)
    return raised.value


def resume(op: StreamJobsSensor, event: dict[str, Any], context: Any) -> Any:
    """What a worker does when the trigger has fired."""
    return op.resume_execution("execute_complete", {"event": event}, context)


def test_an_open_batch_defers_with_all_that_the_trigger_needs_and_no_secret(
    made: Made, server: ServerProcess, context: Any
) -> None:
    began = time.time()
    waiting = deferred(sensor(made, max_failed=1, allow_expired=True, timeout=100), context)
    assert isinstance(waiting.trigger, BatchTrigger)
    path, arguments = waiting.trigger.serialize()
    assert path == "spooled_pipelines.airflow.triggers.BatchTrigger"
    assert arguments["batch"]["batch_id"] == made["batch_id"]
    assert arguments["cancel_on_kill"] is False
    assert arguments["spooled_conn_id"] == "spooled_default"
    assert (arguments["max_failed"], arguments["allow_expired"]) == (1, True)
    assert began + 100 <= arguments["deadline"] <= time.time() + 100
    assert server.api_key not in json.dumps(arguments)
    assert waiting.method_name == "execute_complete"


def test_the_earlier_of_both_time_outs_is_the_triggers_deadline(made: Made, context: Any) -> None:
    waiting = deferred(sensor(made, timeout=1000, execution_timeout=timedelta(seconds=30)), context)
    assert isinstance(waiting.trigger, BatchTrigger)
    assert waiting.trigger.deadline is not None
    assert waiting.trigger.deadline <= time.time() + 30
    # Airflow's own time-out comes later: it tells nobody why.
    assert waiting.timeout is not None
    assert waiting.timeout > timedelta(seconds=60)


def test_a_server_that_is_away_is_waited_for(
    made: Made,
    start_server: Callable[..., ServerProcess],
    connect_airflow: Callable[..., None],
    context: Any,
) -> None:
    server = start_server()
    server.kill()
    connect_airflow(server)
    deferred(sensor(made), context)


def test_it_returns_the_statistics_that_the_trigger_brings(made: Made, context: Any) -> None:
    stats = {"batch_id": made["batch_id"], "completed": 4}
    assert resume(sensor(made), {"status": "settled", "stats": stats}, context) == stats


async def test_the_event_of_a_failure_names_every_error_so_that_nobody_has_to_ask_again(
    made: Made, settle: Callable[..., None], context: Any
) -> None:
    errors = [f"ValueError: {letter * 300}" for letter in "abcd"]
    for error in errors:
        settle(failed=1, error=error)
    (event,) = [event.payload async for event in BatchTrigger(made).run()]
    assert event["status"] == "failed"
    assert len(json.dumps(event)) < 3_000
    with pytest.raises(AirflowFailException) as raised:
        resume(sensor("b_asksnobody"), event, context)
    for error in errors:
        assert f"1 × {error[:150]}" in str(raised.value)


@pytest.mark.parametrize(
    ("limits", "error", "named"),
    [
        ({"timeout": 60}, AirflowSensorTimeout, "timeout of 60 s"),
        (
            {"timeout": 60, "execution_timeout": timedelta(seconds=5)},
            AirflowTaskTimeout,
            "execution_timeout of 5 s",
        ),
    ],
)
def test_time_is_up_says_which_and_what_held_the_batch_back(
    limits: dict[str, Any],
    error: type[BaseException],
    named: str,
    made: Made,
    context: Any,
) -> None:
    event = {"status": "timeout", "message": "No worker is on the queue."}
    with pytest.raises(error, match=named) as raised:
        resume(sensor(made, **limits), event, context)
    assert "No worker is on the queue." in str(raised.value)
    with pytest.raises(AirflowSkipException):
        resume(sensor(made, soft_fail=True, **limits), event, context)


@pytest.mark.parametrize("status", ["failed", "fatal"])
def test_soft_fail_holds_when_it_resumes(status: str, made: Made, context: Any) -> None:
    with pytest.raises(AirflowSkipException):
        resume(sensor(made, soft_fail=True), {"status": status, "message": "no"}, context)


# Poking.


def test_poking_ends_in_time_and_says_what_held_the_batch_back(made: Made, context: Any) -> None:
    with pytest.raises(AirflowSensorTimeout, match="0 of 4 jobs completed") as raised:
        sensor(made, deferrable=False, timeout=0.2).execute(context)
    assert "worker" in str(raised.value)


def test_poking_that_ends_in_time_is_a_skip_where_it_may_fail_softly(
    made: Made, context: Any
) -> None:
    with pytest.raises(AirflowSkipException, match="0 of 4 jobs completed"):
        sensor(made, deferrable=False, timeout=0.2, soft_fail=True).execute(context)


def test_reschedule_mode_gives_its_slot_back(made: Made, reschedulable: Any) -> None:
    with pytest.raises(AirflowRescheduleException):
        sensor(made, deferrable=False, mode="reschedule").execute(reschedulable)


def test_poking_goes_on_while_the_server_is_away(
    made: Made,
    start_server: Callable[..., ServerProcess],
    connect_airflow: Callable[..., None],
    context: Any,
) -> None:
    server = start_server()
    server.kill()
    connect_airflow(server)
    assert not sensor(made, deferrable=False).poke(context)


# In a DAG.


def test_it_comes_after_the_task_whose_batch_it_waits_for() -> None:
    with DAG("d", schedule=None) as dag:

        @task
        def enqueue() -> Made:
            return {}

        StreamJobsSensor(task_id="wait", batch=enqueue())
    assert dag.get_task("wait").upstream_task_ids == {"enqueue"}


@pytest.mark.parametrize("default", ["True", "False"])
def test_deferrable_is_what_airflows_configuration_says_of_all_providers(
    default: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", default)
    enqueue = EnqueueBatchOperator(task_id="e", data=[], queue_name="q", wait_for_completion=True)
    for op in (StreamJobsSensor(task_id="s", queue_name="q"), enqueue):
        assert op.deferrable is (default == "True")
    assert StreamJobsSensor(task_id="t", queue_name="q", deferrable=True).deferrable is True


def test_a_task_that_is_deferred_says_what_goes_on_without_it(made: Made, context: Any) -> None:
    sensor = StreamJobsSensor(task_id="s", batch=made, timeout=3600, deferrable=True)
    said: list[str] = []
    sensor.log.info = lambda text, *values: said.append(text % values)  # type: ignore[method-assign]
    with pytest.raises(TaskDeferred):
        sensor.execute(context)
    (line,) = said
    assert "Deferred for at most 1:00:00" in line
    assert "airflow triggerer" in line


def test_a_queues_log_has_a_line_for_each_tenth_and_each_minute_that_it_moves() -> None:
    said: list[str] = []
    now = [0.0]
    log = ProgressLogger(SimpleNamespace(info=said.append), clock=lambda: now[0])
    for done in range(101):
        log.queue(QueueStats("q", pending=1000 - done, completed=done, total=1000))
    assert len(said) == 2
    now[0] += 61
    for done in (102, 103):
        log.queue(QueueStats("q", pending=1000 - done, completed=done, total=1000))
    assert len(said) == 3
