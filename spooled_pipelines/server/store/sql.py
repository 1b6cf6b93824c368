"""The SQL files of a store: statements by name, migrations by number.

A statement begins with a line `-- name: NAME` and ends where the next one begins. What stands in
braces is replaced by one of `FRAGMENTS`, so that a list of columns is written once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import NamedTuple

from spooled_pipelines.server.core.job_rules import JobState

_MARK = "-- name: "
_COMPATIBLE_FROM = re.compile(r"^-- compatible-from: (\d+)$", re.MULTILINE)
_CONCURRENTLY = "-- concurrently\n"
_IS_CAPPED = (
    "EXISTS (SELECT 1 FROM queue_limits q WHERE q.queue = jobs.queue"
    " AND q.max_in_flight IS NOT NULL)"
)
_LOCKED_COLUMNS = ", ".join(
    (
        *(f"jobs.{name}" for name in ("organization", "queue", "batch", "linked")),
        _IS_CAPPED,
        *(f"jobs.{name}" for name in JobState._fields),
    )
)
FRAGMENTS: Mapping[str, str] = {
    # The fields of `counter_deltas.LockedJob` with those of its state; and all but the number.
    "locked_job": f"jobs.seq, {_LOCKED_COLUMNS}",
    "locked_columns": _LOCKED_COLUMNS,
    "is_capped": _IS_CAPPED,
}


def load_statements(package: str) -> Mapping[str, str]:
    """Return the statements of the package's queries.sql by name."""
    text = (resources.files(package) / "queries.sql").read_text(encoding="utf-8")
    for name, fragment in FRAGMENTS.items():
        text = text.replace(f"{{{name}}}", fragment)
    statements: dict[str, str] = {}
    for part in text.split(_MARK)[1:]:
        name, _, body = part.partition("\n")
        lines = [line for line in body.splitlines() if not line.startswith("--")]
        statements[name.strip()] = "\n".join(lines).strip()
    return MappingProxyType(statements)


class Migration(NamedTuple):
    """One step of a schema.

    A server may use a schema that is newer than it knows if no migration asks for more:
    `compatible_from` is the oldest version whose servers work on the schema after this step. What
    only adds something leaves it as it was, and may come with the release that needs it. What
    takes something away raises it, and comes one release after the last that used it.
    """

    number: int
    statements: str
    compatible_from: int
    # Run statement by statement, outside a transaction: CREATE INDEX CONCURRENTLY.
    is_concurrent: bool


def load_migrations(package: str) -> list[Migration]:
    """Return the package's migrations, in order.

    A file NUMBER_name.sql may begin with `-- compatible-from: NUMBER` (else it is the number
    itself) and `-- concurrently`.
    """
    folder = resources.files(package) / "migrations"
    found = []
    for file in folder.iterdir():
        if file.name.endswith(".sql"):
            number, text = int(file.name[:4]), file.read_text(encoding="utf-8")
            compatible = _COMPATIBLE_FROM.search(text)
            compatible_from = number if compatible is None else int(compatible[1])
            found.append(Migration(number, text, compatible_from, _CONCURRENTLY in text))
    return sorted(found)
