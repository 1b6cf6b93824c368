"""What a second call counts: every row of the table in docs/batches.md, on every kind of server."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "batches.md"
Rows = list[dict[str, Any]]
ROWS: Rows = [{"id": n, "value": n % 7} for n in range(50)]


def shuffled(rows: Rows) -> Rows:
    return random.Random(2).sample(rows, len(rows))


def added(rows: Rows) -> Rows:
    return [*rows, {"id": 50, "value": 0}, {"id": 51, "value": 1}]


def removed(rows: Rows) -> Rows:
    return rows[:45]


def changed(rows: Rows) -> Rows:
    return [{**row, "value": 99} if row["id"] == 7 else row for row in rows]


def doubled(rows: Rows) -> Rows:
    return [*rows, rows[3]]


def same(rows: Rows) -> Rows:
    return rows


# What the page calls it, what is done, the key, and (created, duplicates) of the second call.
CASES: list[tuple[str, Callable[[Rows], Rows], str | None, tuple[int, int]]] = [
    ("the same table", same, None, (0, 50)),
    ("its rows in another order", shuffled, None, (0, 50)),
    ("rows added", added, None, (2, 50)),
    ("rows removed", removed, None, (0, 45)),
    ("a row changed, without `key=`", changed, None, (1, 49)),
    ("a row changed outside of `key=`", changed, "id", (0, 50)),
    ("a row twice, without `key=`", doubled, None, (1, 50)),
    ("a row twice, with `key=`", doubled, "id", (0, 51)),
]


@pytest.mark.parametrize("name", ["nightly", None])
@pytest.mark.parametrize(("case", "change", "key", "expected"), CASES, ids=[c[0] for c in CASES])
def test_a_second_call_counts_as_the_page_says(
    door: Any,
    queue: str,
    case: str,
    change: Callable[[Rows], Rows],
    key: str | None,
    expected: tuple[int, int],
    name: str | None,
) -> None:
    first = door.enqueue_batch(ROWS, queue, key=key, name=name)
    assert (first.created, first.duplicates) == (50, 0)
    again = door.enqueue_batch(change(ROWS), queue, key=key, name=name)
    assert (again.created, again.duplicates, again.rejected) == (*expected, 0)
    assert door.queue_stats(queue).total == 50 + expected[0]
    row = next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| {case} |"))
    said = row.strip("| ").split(" | ")[1 if name else 2]
    # Nothing of a batch without a name but its rows says which one it is.
    assert ("another batch" in said) == (first.id != again.id)
    assert ("nothing created" in said) == (not again.created)


def test_another_name_is_another_batch(door: Any, queue: str) -> None:
    first = door.enqueue_batch(ROWS, queue, name="monday")
    again = door.enqueue_batch(ROWS, queue, name="tuesday")
    assert (again.created, again.id != first.id) == (50, True)
