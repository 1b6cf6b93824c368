"""Around the README."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.doc_setup import ORDERS, connect_airflow


@contextmanager
def dags(page: Any) -> Iterator[None]:
    connect_airflow(page)
    page.names["read_orders"] = lambda: ORDERS
    before = set(sys.modules)
    yield
    assert "airflow.sdk" in set(sys.modules) - before
