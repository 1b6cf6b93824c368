"""Around what came of a batch: one that a worker has done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.doc_setup import ORDERS, client_in, working


@contextmanager
def page(page: Any) -> Iterator[None]:
    page.replace["s3://bucket/"] = ""
    with client_in(page) as client:
        page.names["batch"] = client.enqueue_batch(ORDERS, "orders", key="order_id")
        with working(client, "orders"):
            yield


@contextmanager
def settled_again(page: Any) -> Iterator[None]:
    results = page.names["batch"].results()
    page.names["job_id"] = results["job_id"][0].as_py()
    yield
