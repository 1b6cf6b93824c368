"""Each row of the table in docs/airflow-reruns.md, done in a real Airflow."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support import rerun_table
from tests.support.rerun_table import ROWS, SCENARIOS, WORKED_ON, Observed, Row, do_all

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(2400)]


@pytest.fixture(
    scope="module", params=["world", pytest.param("world_on_sqlite", marks=pytest.mark.long)]
)
def observed(request: pytest.FixtureRequest) -> dict[str, Observed]:
    return do_all(request.getfixturevalue(request.param))


def test_every_row_of_the_table_is_done_and_nothing_else() -> None:
    told = Counter((row.what, row.on_rerun) for row in rerun_table.rows())
    assert told == Counter(dict.fromkeys(SCENARIOS, 1))


@pytest.mark.parametrize("row", rerun_table.rows(), ids=lambda row: f"{row.what}, {row.on_rerun}")
def test_what_happens_is_what_the_row_says(row: Row, observed: dict[str, Observed]) -> None:
    scenario = SCENARIOS[row.what, row.on_rerun]
    found = observed[scenario.dag_id]
    assert found.statuses["all"] == int(row.jobs)
    if row.batch == "none":
        assert found.statuses["batches"] == found.batches_before
        return
    assert found.before is not None
    assert found.after is not None
    same = found.after["batch_id"] == found.before["batch_id"]
    assert same == (row.batch == "the same")
    assert found.statuses["batches"] == found.batches_before + (not same)
    created, there = found.after["created"], found.after["duplicates"]
    if row.created == "what is missing":
        assert 0 < there < ROWS
        assert created + there == ROWS
    else:
        assert (created, there) == (int(row.created), int(row.there))
    assert found.after.get("retried", 0) == int(row.put_back)


def test_what_was_worked_on_stays_as_the_choice_says(observed: dict[str, Observed]) -> None:
    def statuses(choice: str) -> dict[str, int]:
        found = observed[f"cleared_task_{choice}"].statuses
        return {name: found[name] for name in ("completed", "deadletter", "pending", "cancelled")}

    as_it_was = {**WORKED_ON, "cancelled": 0}
    assert statuses("resume") == as_it_was
    assert statuses("retry_failed") == {**as_it_was, "deadletter": 0, "pending": 40}
    assert statuses("fresh") == {**as_it_was, "pending": 100, "cancelled": 30}
