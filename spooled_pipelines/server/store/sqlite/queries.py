"""The statements of queries.sql by name, and the migrations by number."""

from __future__ import annotations

import re

from spooled_pipelines.server.store.sql import load_migrations, load_statements


def _numbered(statement: str) -> str:
    numbers: dict[str, int] = {}
    return re.sub(
        r":(\w+)", lambda match: f"?{numbers.setdefault(match[1], len(numbers) + 1)}", statement
    )


# Take their values by name.
NAMED = load_statements(__package__)
# Take them in the order in which their names come first, which costs a third less of a short one.
SQL = {name: _numbered(statement) for name, statement in NAMED.items()}
# Each is run once on a file, in order.
MIGRATIONS = load_migrations(__package__)
