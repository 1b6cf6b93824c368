"""Around the page of the shell: files, a database, a worker, profiles."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.doc_blocks import DOCS, blocks_of
from tests.support.doc_setup import WAIT_SECONDS, client_in, write_files

# What the duckdb command does, which comes without its Python package.
DUCKDB = f"""#!{sys.executable}
import sys
import duckdb
print(duckdb.sql(sys.argv[2]))
"""


@contextmanager
def page(page: Any) -> Iterator[None]:
    # Completion is written into the user's own settings.
    os.environ.update(HOME=str(Path.cwd()), SHELL="/bin/bash")
    write_files()
    with client_in(page):
        yield


@contextmanager
def worked(page: Any) -> Iterator[None]:
    yield
    page.names["client"].batch(page.replace["BATCH"]).wait(timeout=WAIT_SECONDS)


@contextmanager
def piped(page: Any) -> Iterator[None]:
    import psycopg

    from tests.support.postgres import shared_cluster

    Path("bin").mkdir()
    Path("bin/duckdb").write_text(DUCKDB)
    Path("bin/duckdb").chmod(0o755)
    os.environ["PATH"] = f"{Path('bin').resolve()}{os.pathsep}{os.environ['PATH']}"
    url = shared_cluster().empty_database()
    with psycopg.connect(url) as database:
        database.execute("CREATE TABLE orders (order_id integer, amount float)")
        database.execute("INSERT INTO orders VALUES (11, 9.5), (12, 12.0)")
    page.replace["psql -c"] = f"psql '{url}' -c"
    yield


@contextmanager
def in_production(page: Any) -> Iterator[None]:
    """The file that the page shows, with our server in the place of production."""
    (shown,) = (block for block in blocks_of(DOCS / "shell.md") if block.language == "toml")
    text = shown.text.replace("queue.example.com:443", page.address)
    Path("config.toml").write_text(text.replace('tls_ca = "queue-ca.pem"', ""))
    os.environ.update(SPOOLED_CONFIG="config.toml", PRODUCTION_SPOOLED_KEY=page.api_key)
    yield
    del os.environ["SPOOLED_CONFIG"]
