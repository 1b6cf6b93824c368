"""Each row of the table in docs/airflow-reruns.md, done in a real Airflow.

Every mechanism is in each run of the tests; every row, and the same over SQLite, in the long run.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support import rerun_table
from tests.support.rerun_table import ROWS, SCENARIOS, WORKED_ON, Observed, Row, do_all
from tests.support.standalone import World

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(2400)]

# A process that is killed before, while and after it sends; a task that is cleared, with each way
# to go on that changes something; a backfill; one of several mapped tasks; another table.
SAMPLE = (
    "dies_before",
    "dies_during",
    "dies_after",
    "cleared_task_retry_failed",
    "cleared_task_fresh",
    "backfill_reprocess",
    "mapped",
    "rows_added",
)
AS_IT_WAS = {**WORKED_ON, "cancelled": 0}
STATUSES = {
    "resume": AS_IT_WAS,
    "retry_failed": {**AS_IT_WAS, "deadletter": 0, "pending": 40},
    "fresh": {**AS_IT_WAS, "pending": 100, "cancelled": 30},
}


def dag_of(row: Row) -> str:
    return SCENARIOS[row.what, row.on_rerun].dag_id


def name_of(row: Row) -> str:
    return f"{row.what}, {row.on_rerun}"


@pytest.fixture(scope="module")
def sample(world: World) -> dict[str, Observed]:
    return do_all(world, SAMPLE)


@pytest.fixture(scope="module", params=["world", "world_on_sqlite"])
def everything(request: pytest.FixtureRequest) -> dict[str, Observed]:
    return do_all(
        request.getfixturevalue(request.param), [one.dag_id for one in SCENARIOS.values()]
    )


def test_every_row_of_the_table_is_done_and_nothing_else() -> None:
    told = Counter((row.what, row.on_rerun) for row in rerun_table.rows())
    assert told == Counter(dict.fromkeys(SCENARIOS, 1))


@pytest.mark.parametrize(
    "row", [row for row in rerun_table.rows() if dag_of(row) in SAMPLE], ids=name_of
)
def test_what_happens_is_what_the_row_says(row: Row, sample: dict[str, Observed]) -> None:
    assert_as_the_row_says(row, sample[dag_of(row)])


@pytest.mark.long
@pytest.mark.parametrize("row", rerun_table.rows(), ids=name_of)
def test_what_happens_is_what_the_row_says_in_every_case(
    row: Row, everything: dict[str, Observed]
) -> None:
    assert_as_the_row_says(row, everything[dag_of(row)])


def assert_as_the_row_says(row: Row, found: Observed) -> None:
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


@pytest.mark.parametrize("choice", ["retry_failed", "fresh"])
def test_what_was_worked_on_stays_as_the_choice_says(
    choice: str, sample: dict[str, Observed]
) -> None:
    assert_as_chosen(choice, sample)


@pytest.mark.long
@pytest.mark.parametrize("choice", STATUSES)
def test_what_was_worked_on_stays_as_every_choice_says(
    choice: str, everything: dict[str, Observed]
) -> None:
    assert_as_chosen(choice, everything)


def assert_as_chosen(choice: str, found: dict[str, Observed]) -> None:
    statuses = found[f"cleared_task_{choice}"].statuses
    assert {name: statuses[name] for name in AS_IT_WAS} == STATUSES[choice]
