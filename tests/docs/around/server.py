"""Around the page of the server: its files in a folder of the test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.doc_setup import write_files

ENQUEUE = """
import spooled_pipelines

with spooled_pipelines.connect("embedded:spooled.db") as client:
    print(client.enqueue_batch([{"amount": 1}], "orders").created)
"""


@contextmanager
def page(page: Any) -> Iterator[None]:
    write_files()
    Path("backup").mkdir()
    page.replace["/var/lib/spooled/spooled.db"] = str(Path("served.db").resolve())
    page.replace["0.0.0.0:50051"] = "127.0.0.1:0"
    page.replace["/backup/"] = "backup/"
    yield


@contextmanager
def served(page: Any) -> Iterator[None]:
    from tests.support.certificates import make_certificate

    make_certificate().write(Path("server.pem"), Path("server.key"))
    os.environ["SPOOLED_TLS_CA"] = str(Path("server.pem").resolve())
    yield
    # What follows talks to the server that the test has, which has no TLS.
    os.environ.pop("SPOOLED_TLS_CA")
    os.environ["SPOOLED_GRPC_ADDRESS"] = page.address


@contextmanager
def shared(page: Any) -> Iterator[None]:
    Path("enqueue_orders.py").write_text(ENQUEUE)
    yield
