"""What failed, grouped by error; and another try with a payload that is put right."""

from __future__ import annotations

from typing import Any

import pytest

from spooled_pipelines import Batch, Job
from spooled_pipelines.batch.outcome.dead_letters import PayloadPatch
from spooled_pipelines.errors import InvalidArgumentError, LossyValueError
from spooled_pipelines.testing import MemoryClient, server
from spooled_pipelines.wire import spooled_v1
from spooled_pipelines.wire.well_known import Struct
from spooled_pipelines.worker import Discard


@pytest.fixture
def batch(spooled_client: MemoryClient, spooled_run_jobs: Any) -> Batch:
    """Six jobs: two of them done, three dead of a time-out, one of a wrong amount."""

    def handler(job: Job) -> None:
        n = job.payload["n"]
        if n < 3:
            raise Discard("TimeoutError: the bank did not answer\nat line 1")
        if n == 3:
            raise Discard("ValueError: amount")

    made = spooled_client.enqueue_batch([{"n": n} for n in range(6)], "q", key="n")
    spooled_run_jobs(handler, "q")
    return made


def test_what_failed_is_a_table_with_a_line_for_each_error(batch: Batch) -> None:
    table = batch.failed()
    assert table.column_names == ["error", "count", "last", "retries", "job_ids", "example"]
    timeouts, wrong = table.to_pylist()
    assert (timeouts["error"], timeouts["count"]) == ("TimeoutError: the bank did not answer", 3)
    assert (wrong["error"], wrong["count"], len(wrong["job_ids"])) == ("ValueError: amount", 1, 1)
    assert timeouts["last"] is not None


def test_a_batch_without_failures_has_an_empty_table(spooled_client: MemoryClient) -> None:
    batch = spooled_client.enqueue_batch([{"n": 1}], "q", key="n")
    assert batch.failed().num_rows == 0


def test_payloads_are_put_right_on_the_way_back(
    batch: Batch, spooled_client: MemoryClient, spooled_run_jobs: Any
) -> None:
    def patch(payload: dict[str, Any]) -> dict[str, Any] | None:
        return None if payload["n"] == 1 else {**payload, "patient": True}

    assert batch.retry_failed(error_contains="TimeoutError", patch=patch) == 2
    runs = spooled_run_jobs(lambda job: {"patient": job.payload["patient"]}, "q")
    assert [run.job.result for run in runs] == [{"patient": True}] * 2
    assert [line["count"] for line in batch.failed().to_pylist()] == [1, 1]
    attempts = spooled_client.attempts(runs[0].job.id)
    assert [attempt.error is None for attempt in attempts] == [False, True]


def test_a_patch_that_cannot_be_sent_changes_nothing(batch: Batch) -> None:
    with pytest.raises(LossyValueError):
        batch.retry_failed(patch=lambda payload: {"id": 2**60 if payload["n"] == 3 else 1})
    with pytest.raises(ZeroDivisionError):
        batch.retry_failed(patch=lambda payload: {"x": 1 // (3 - payload["n"])})
    assert batch.stats().deadletter == 4


def test_dead_letters_of_a_queue_can_be_discarded(
    batch: Batch, spooled_client: MemoryClient
) -> None:
    assert spooled_client.discard_dead_letters("q", error_contains="ValueError") == 1
    assert len(spooled_client.dead_letters("q")) == 3
    assert spooled_client.discard_dead_letters("q") == 3
    assert batch.stats().cancelled == 4
    assert spooled_client.discard_dead_letters("q") == 0


def test_a_plain_server_has_none_of_it() -> None:
    with server(batch_extension=False) as client:
        batch = client.enqueue_batch([{"n": 1}], "q", key="n")
        with pytest.raises(InvalidArgumentError, match="keeps no batches"):
            batch.failed()
        with pytest.raises(InvalidArgumentError, match="keeps no batches"):
            batch.retry_failed(patch=lambda payload: payload)


def test_patched_payloads_are_put_aside_in_the_order_of_their_jobs() -> None:
    """Many large payloads do not have to fit into memory."""
    with PayloadPatch(
        "late", lambda payload: {"n": payload["n"] + 1} if payload["n"] else None
    ) as patch:
        for n in range(4):
            message = spooled_v1.Job(id=f"j{n}", last_error="late" if n < 3 else "wrong")
            message.payload.update({"n": n})
            patch.add(message)
        revisions = list(patch.revisions())
        assert [revision.job_id for revision in revisions] == ["j1", "j2"]
        assert Struct.FromString(revisions[1].requeue.payload)["n"] == 3
        assert [revision.job_id for revision in patch.revisions()] == ["j1", "j2"]
