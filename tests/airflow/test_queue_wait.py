"""The sensor waits for a queue, too: for conditions on its statistics, in every mode alike."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines import SpooledClient
from spooled_pipelines.airflow import StreamJobsSensor
from spooled_pipelines.airflow.arguments.queue_condition import NAMES, parse
from spooled_pipelines.airflow.platform.versions import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from spooled_pipelines.airflow.triggers import QueueTrigger
from spooled_pipelines.errors import InvalidArgumentError
from tests.support.server_process import ServerProcess

MODES = [
    pytest.param({"deferrable": True}, id="deferrable"),
    pytest.param({"deferrable": False}, id="poke"),
    pytest.param({"deferrable": False, "mode": "reschedule"}, id="reschedule"),
]


@pytest.fixture
def reschedulable(context: Any) -> dict[str, Any]:
    context["ti"].get_first_reschedule_date = lambda _: None
    return context


@pytest.fixture
def jobs(connected: ServerProcess, client: SpooledClient, queue: str) -> str:
    """A queue with three jobs, of which one completed and one is dead."""
    client.enqueue_batch([{"id": number} for number in range(3)], queue, name="jobs")
    first, second = client.dequeue(queue, "hand", batch_size=2)
    client.complete(first)
    client.fail(second, "no", retry=False)
    return queue


def sensor(queue_name: str, **arguments: Any) -> StreamJobsSensor:
    return StreamJobsSensor(task_id="wait", queue_name=queue_name, poke_interval=0.05, **arguments)


@pytest.mark.parametrize("mode", MODES)
def test_it_passes_where_every_condition_holds(
    mode: dict[str, Any], jobs: str, reschedulable: Any
) -> None:
    until = "completed >= 1 and pending == 1 and open < 2"
    stats = sensor(jobs, until=until, **mode).execute(reschedulable)
    assert (stats["completed"], stats["pending"], stats["open"]) == (1, 1, 1)
    assert stats["queue_name"] == jobs


@pytest.mark.parametrize("mode", MODES)
def test_it_fails_at_once_where_it_is_told_to(
    mode: dict[str, Any], jobs: str, reschedulable: Any
) -> None:
    with pytest.raises(AirflowFailException, match="That is deadletter > 0"):
        sensor(jobs, fail_if="deadletter > 0", **mode).execute(reschedulable)


@pytest.mark.parametrize("mode", MODES[1:])
def test_time_is_up_with_where_the_queue_stands(
    mode: dict[str, Any], jobs: str, reschedulable: Any
) -> None:
    reschedulable["ti"].get_first_reschedule_date = lambda _: None
    op = sensor(jobs, timeout=0.2, deferrable=False)
    with pytest.raises(AirflowSensorTimeout, match="1 pending"):
        op.execute(reschedulable)


def test_by_default_it_waits_until_nothing_is_open(jobs: str, context: Any) -> None:
    with pytest.raises(TaskDeferred) as raised:
        sensor(jobs, timeout=100).execute(context)
    trigger = raised.value.trigger
    assert isinstance(trigger, QueueTrigger)
    path, arguments = trigger.serialize()
    assert arguments["until"] == "open == 0"
    assert QueueTrigger(**arguments).serialize() == (path, arguments)
    assert arguments["deadline"] <= time.time() + 100


def test_conditions_may_be_templates(jobs: str, context: Any) -> None:
    op = sensor(jobs, until="completed >= {{ params.n - 2 }}")
    op.render_template_fields(context)
    assert op.execute(context)["completed"] == 1
    wrong = sensor(jobs, until="{{ run_id }}")
    wrong.render_template_fields(context)
    with pytest.raises(AirflowFailException, match=r"until must be .* got 'run-1'"):
        wrong.execute(context)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give one of them"),
        ({"batch": "b_1", "queue_name": "q"}, "give one of them"),
        ({"batch": "b_1", "until": "open == 1"}, "give queue_name="),
        ({"queue_name": "q", "max_failed": 3}, 'fail_if="deadletter > 3"'),
        ({"queue_name": "q", "until": "pending"}, "got 'pending'"),
        ({"queue_name": "q", "fail_if": "dead > 3"}, "got 'dead > 3'"),
        ({"queue_name": "q", "until": ""}, "got ''"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_dag(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        StreamJobsSensor(task_id="wait", **arguments)
    assert message in str(raised.value)


def test_soft_fail_makes_a_skip_of_it(jobs: str, context: Any) -> None:
    with pytest.raises(AirflowSkipException):
        sensor(jobs, fail_if="deadletter > 0", soft_fail=True).execute(context)


async def first_event(trigger: QueueTrigger) -> dict[str, Any]:
    async for event in trigger.run():
        payload: dict[str, Any] = event.payload
        return payload
    raise AssertionError("the trigger ended without an event")


async def test_the_trigger_fires_once_the_condition_holds(
    jobs: str, client: SpooledClient, often: None
) -> None:
    running = asyncio.create_task(first_event(QueueTrigger(jobs, "open == 0")))
    await asyncio.sleep(0)
    (job,) = await asyncio.to_thread(client.dequeue, jobs, "hand")
    await asyncio.to_thread(client.complete, job)
    event = await asyncio.wait_for(running, 20)
    assert (event["status"], event["stats"]["completed"]) == ("settled", 2)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SPOOLED__QUEUE_POLL_SECONDS", "0.1")


async def test_the_trigger_fires_at_what_it_shall_fail_at_and_at_its_deadline(jobs: str) -> None:
    event = await first_event(QueueTrigger(jobs, "open == 0", "deadletter >= 1"))
    assert (event["status"], "That is deadletter >= 1" in event["message"]) == ("failed", True)
    late = QueueTrigger(jobs, "open == 0", deadline=time.time() + 1)
    event = await first_event(late)
    assert event["status"] == "timeout"
    assert "1 pending" in event["message"]


@given(st.data())
def test_a_condition_means_what_python_means_by_it(data: st.DataObject) -> None:
    stats = {name: data.draw(st.integers(0, 3)) for name in NAMES}
    parts = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(NAMES),
                st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
                st.integers(0, 3),
            ),
            min_size=1,
            max_size=4,
        )
    )
    text = " and ".join(f"{name} {sign} {number}" for name, sign, number in parts)
    assert parse(text, "until")(stats) is eval(text, {}, dict(stats))


@pytest.mark.parametrize("mode", MODES[:2])
def test_a_queue_that_nobody_has_used_is_named_and_passes_only_where_that_is_said(
    mode: dict[str, Any], connected: ServerProcess, queue: str, reschedulable: Any
) -> None:
    waiting = sensor(queue, **mode)
    assert not waiting.poke(reschedulable).is_done
    assert (
        waiting._description == f"Queue {queue}: the server knows no job of it. Is this its name?"
    )
    with pytest.raises(AirflowFailException, match="knows no job"):
        sensor(queue, on_missing="fail", **mode).execute(reschedulable)
    assert sensor(queue, on_missing="success", **mode).execute(reschedulable)["total"] == 0
    with pytest.raises(InvalidArgumentError, match="on_missing"):
        sensor(queue, on_missing="perhaps", **mode)
