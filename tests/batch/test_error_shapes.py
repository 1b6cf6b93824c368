"""Errors are grouped by what they have in common: numbers, ids and quoted texts are left out."""

from __future__ import annotations

import pytest

from spooled_pipelines.batch.outcome.dead_letters import FailureSummary
from spooled_pipelines.error_shapes import error_shape, text_in_all
from spooled_pipelines.types import Job, JobStatus


@pytest.mark.parametrize(
    ("error", "shape"),
    [
        ("no customer 17 in 'Oslo'\nTraceback …", "no customer … in …"),
        ("job 03f1781d-0d78-4fb4-99e0-3c674a2f7658 is gone", "job … is gone"),
        ("customer cus_Ab12Cd34Ef is gone", "customer … is gone"),
        ("no customer A17, nor ORD_00004711", "no customer …, nor …"),
        ("S3 has no UTF8, SHA1 and H2", "S3 has no UTF8, SHA1 and H2"),
        ("HTTP 503 from host-5.example:8080", "HTTP 503 from host-….example:…"),
        ("status=404 for /orders/1234", "status=404 for /orders/…"),
        ("[Errno 28] No space left on device: '/x/y'", "[Errno 28] No space left on device: …"),
        ("exit code 137 after 12.5 s", "exit code 137 after … s"),
        ("cannot convert int64 to utf8", "cannot convert int64 to utf8"),
        ("it's the user's fault", "it's the user's fault"),
        ("", ""),
    ],
)  # fmt: skip
def test_the_shape_of_an_error(error: str, shape: str) -> None:
    assert error_shape(error) == shape
    assert error_shape(error_shape(error)) == error_shape(error)
    assert text_in_all(shape) in error


def test_jobs_are_counted_by_shape_and_keep_an_example() -> None:
    summary = FailureSummary()
    for number in range(3_000):
        summary.add_job(
            Job(str(number), "q", JobStatus.DEADLETTER, {}, last_error=f"no customer {number}")
        )
    summary.add_job(Job("x", "q", JobStatus.DEADLETTER, {}, last_error="page 7 is missing"))
    first, second = summary.table().to_pylist()
    assert (first["error"], first["count"], first["example"]) == (
        "no customer …",
        3_000,
        "no customer 0",
    )
    # One that is alone is shown as it is.
    assert (second["error"], second["count"]) == ("page 7 is missing", 1)
