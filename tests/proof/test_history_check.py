"""The check of histories finds what it looks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spooled_pipelines.server.core.jobs.records import JobRecord, Status
from spooled_pipelines.wire.well_known import Struct
from tests.support.proof.history import Findings, check, read

CLAIM = {"what": "claim", "job": "j", "lease": "one", "start": 0, "end": 5_000}
LATER = {**CLAIM, "lease": "two", "start": 5_000, "end": 10_000}
TRY = {"what": "try", "act": "complete", "job": "j", "lease": "one"}
DONE = {**TRY, "what": "answer", "code": "OK", "end": None}
RENEWED = {**DONE, "act": "renew", "end": 8_000}


def found(folder: Path, *facts: dict[str, Any], lease: str = "one", at: int = 1_000) -> Findings:
    file = folder / "history.jsonl"
    file.write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    result = Struct()
    result["lease"] = lease
    times = (0, None, 0, at, None)
    record = JobRecord(
        1,
        "j",
        "q",
        Status.COMPLETED,
        0,
        0,
        3,
        1,
        False,
        300,
        *times,
        "w",
        lease,
        *(None,) * 4,
        b"",
    )
    return check(read([file]), [record._replace(result=result.SerializeToString())])


def test_a_job_that_was_settled_once_by_its_holder_is_fine(tmp_path: Path) -> None:
    fine = found(tmp_path, CLAIM, TRY, DONE)
    assert (fine.double_leases, fine.stale_settles, fine.wrong) == ([], [], [])
    assert (fine.leases, fine.settled) == (1, 1)
    # The worker that settled was killed before it could note the answer.
    killed = found(tmp_path, CLAIM, TRY)
    assert (killed.stale_settles, killed.wrong, killed.unanswered) == ([], [], 1)


def test_a_lease_that_begins_before_the_other_ends_is_found(tmp_path: Path) -> None:
    assert found(tmp_path, CLAIM, LATER, lease="two", at=6_000).double_leases == []
    early = {**LATER, "start": 4_999}
    assert len(found(tmp_path, CLAIM, early, lease="two", at=6_000).double_leases) == 1
    renewed = (CLAIM, {**TRY, "act": "renew"}, RENEWED, LATER)
    assert len(found(tmp_path, *renewed, lease="two", at=6_000).double_leases) == 1


def test_a_settle_by_one_who_lost_the_lease_is_found(tmp_path: Path) -> None:
    assert len(found(tmp_path, CLAIM, LATER, DONE, at=6_000, lease="two").stale_settles) == 1
    assert found(tmp_path, CLAIM, DONE, at=5_000).stale_settles
    twice = (CLAIM, LATER, DONE, {**DONE, "lease": "two"})
    assert found(tmp_path, *twice, at=6_000, lease="two").stale_settles


def test_a_job_that_nobody_settled_is_found(tmp_path: Path) -> None:
    assert found(tmp_path, CLAIM, lease="unknown").wrong
    assert found(tmp_path, CLAIM, {**CLAIM, "job": "lost", "lease": "x"}).wrong
