"""Around the page of PostgreSQL: a real one, with the servers' schema in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.doc_blocks import DOCS, blocks_of


@contextmanager
def in_postgresql(page: Any) -> Iterator[None]:
    import psycopg

    from tests.support.postgres import shared_cluster

    url = shared_cluster().empty_database()
    page.replace["postgresql://spooled@db/spooled"] = f"'{url}'"
    page.replace["0.0.0.0:50051"] = "127.0.0.1:0"
    yield
    # The server has made its tables by now.
    blocks = [b.text for b in blocks_of(DOCS / "postgresql.md") if b.language == "sql"]
    # Those with roles run in tests/server/postgres/test_privileges.py.
    with psycopg.connect(url, autocommit=True) as database:
        for statement in blocks:
            if "CREATE ROLE" not in statement:
                database.execute(statement.encode())
