"""Messages become plain values, whole and typed."""

from dataclasses import fields
from datetime import datetime, timezone
from typing import Any, cast

import pytest

from spooled_pipelines.errors import ServerError
from spooled_pipelines.rpc import decode
from spooled_pipelines.rpc.struct import to_struct
from spooled_pipelines.types import BatchStats, Job, JobStatus, QueueStats
from spooled_pipelines.wire import batch_v1, spooled_v1
from spooled_pipelines.wire.well_known import Timestamp


def filled(message: Any, **given: Any) -> object:
    """The message with something different in every field, so that a mix-up shows."""
    for field in message.DESCRIPTOR.fields:
        if field.name in given or field.is_repeated:
            continue
        if field.type == field.TYPE_STRING:
            setattr(message, field.name, f"{field.name}-{field.number}")
        elif field.type in (field.TYPE_INT32, field.TYPE_INT64):
            setattr(message, field.name, field.number)
        elif field.message_type and field.message_type.name == "Timestamp":
            getattr(message, field.name).seconds = field.number
        elif field.message_type and field.message_type.name == "Struct":
            getattr(message, field.name).CopyFrom(to_struct({"n": field.number}))
        elif field.type == field.TYPE_BOOL:
            setattr(message, field.name, True)
    for name, value in given.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "make", "kind"),
    [
        (spooled_v1.Job(), decode.job_from, Job),
        (spooled_v1.GetQueueStatsResponse(), decode.queue_stats_from, QueueStats),
        (batch_v1.BatchStats(), decode.batch_stats_from, BatchStats),
    ],
    ids=["Job", "QueueStats", "BatchStats"],
)
def test_every_field_of_a_value_comes_from_its_own_on_the_wire(
    message: Any, make: Any, kind: Any
) -> None:
    numbers = {field.name: field.number for field in message.DESCRIPTOR.fields}
    value = make(filled(message))
    for field in fields(kind):
        if field.name in ("due_at", "schema"):
            # Not of the job's message: the one is beside it in a list, the other known by its id.
            continue
        got, number = getattr(value, field.name), numbers[field.name]
        if isinstance(got, bool | tuple | JobStatus):
            continue
        if isinstance(got, datetime):
            assert got == datetime.fromtimestamp(number, timezone.utc), field.name
        elif isinstance(got, dict):
            assert got == {"n": number}, field.name
        else:
            assert got in (number, f"{field.name}-{number}"), field.name


def test_what_is_not_there_is_none() -> None:
    job = decode.job_from(spooled_v1.Job(id="j"))
    assert job.result is None
    assert job.last_error is None
    assert job.created_at is None
    assert job.lease_id is None
    assert job.payload == {}


@pytest.mark.parametrize("status", list(JobStatus))
def test_every_status_of_the_wire_has_its_name(status: JobStatus) -> None:
    number: Any = spooled_v1.JobStatus.Value(f"JOB_STATUS_{status.name}")
    assert decode.job_from(spooled_v1.Job(status=number)).status is status


def test_statuses_and_causes_of_a_newer_server_are_unspecified() -> None:
    assert decode.job_status_from(99) is JobStatus.UNSPECIFIED
    stats = batch_v1.BatchStats(stalls=[batch_v1.Stall(cause=cast("Any", 99), message="new")])
    assert decode.batch_stats_from(stats).stalls[0].cause == "unspecified"


def test_a_batch_names_what_holds_it_back() -> None:
    stats = batch_v1.BatchStats(
        stalls=[batch_v1.Stall(cause=batch_v1.Stall.CAUSE_NO_WORKER, message="no worker on q")],
        top_errors=[batch_v1.ErrorCount(error="ValueError", count=3)],
    )
    value = decode.batch_stats_from(stats)
    assert (value.stalls[0].cause, value.stalls[0].message) == ("no_worker", "no worker on q")
    assert value.top_errors == (("ValueError", 3),)


def test_a_time_that_does_not_exist_is_the_servers_fault() -> None:
    with pytest.raises(ServerError):
        decode.time_from(Timestamp(seconds=10**15))
