"""Around the example DAGs, which tests/airflow runs whole: here each is read as Airflow does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.doc_setup import connect_airflow


@contextmanager
def dags(page: Any) -> Iterator[None]:
    from airflow.sdk.definitions._internal.contextmanager import DagContext

    connect_airflow(page)
    # So Airflow notes what a file defines.
    DagContext.current_autoregister_module_name = page.names["__name__"]
    DagContext.autoregistered_dags.clear()
    yield
    assert len(DagContext.autoregistered_dags) == 1
