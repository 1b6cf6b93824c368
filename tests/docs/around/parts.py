"""Around a batch in parts: the other parts, from processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.doc_setup import ORDERS, client_in, working


@contextmanager
def seven_parts(page: Any) -> Iterator[None]:
    with client_in(page) as client:
        opened = client.open_batch("2026-11-23", "orders", key="order_id")
        for number in range(7):
            opened.add(f"part-{number}", [{"order_id": 10 + number, "amount": 1.0}])
        page.names["rows_of_part_7"] = ORDERS
        with working(client, "orders"):
            yield
        assert page.names["batch"].stats().completed == 10


@contextmanager
def eight_parts(page: Any) -> Iterator[None]:
    with client_in(page) as client:
        page.names["saved"] = client.open_batch("2026-11-24", "orders", key="order_id").to_dict()
        page.names["parts"] = [[{"order_id": number, "amount": 1.0}] for number in range(8)]
        yield
        with working(client, "orders"):
            page.names["batch"].wait(timeout=60)
