"""Where OpenLineage is installed it is told what was read and where it went."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

from spooled_pipelines.airflow import EnqueueBatchOperator

INSTALLED = find_spec("airflow.providers.openlineage") is not None


def facets(data: Any) -> Any:
    op = EnqueueBatchOperator(task_id="e", data=data, queue_name="orders")
    return op.get_openlineage_facets_on_complete(None)


@pytest.fixture(autouse=True)
def _connection(connect_airflow: Callable[..., None]) -> None:
    connect_airflow(host="spooled.example.org", port=50051, password="sp_test_key")


@pytest.mark.skipif(INSTALLED, reason="OpenLineage is installed: see the test below")
def test_without_it_nothing_is_told() -> None:
    assert facets("/data/orders.parquet") is None


@pytest.mark.skipif(
    not INSTALLED, reason="OpenLineage is not installed: `make test-oldest-airflow` has it"
)
@pytest.mark.parametrize(
    ("data", "inputs"),
    [
        ("/data/orders.parquet", [("file", "/data/orders.parquet")]),
        ("s3://shop/a/b.parquet", [("s3://shop", "a/b.parquet")]),
        ([{"id": 1}], []),
    ],
)
def test_with_it_the_input_and_the_queue_are(data: Any, inputs: list[tuple[str, str]]) -> None:
    found = facets(data)
    assert [(one.namespace, one.name) for one in found.inputs] == inputs
    outputs = [(one.namespace, one.name) for one in found.outputs]
    assert outputs == [("spooled://spooled.example.org:50051", "orders")]
