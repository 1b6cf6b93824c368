"""What needs an extra that is not there names the pip line that brings it."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

# A module of ours, a name of it, what it lacks, and the extra that brings that.
NEEDS = [
    ("spooled_pipelines.engines.spark", "enqueue", "pyspark", "spark"),
    ("spooled_pipelines.engines.spark_source", "SpooledDataSource", "pyspark", "spark"),
    ("spooled_pipelines.engines.dask", "enqueue", "pandas", "dask"),
    ("spooled_pipelines.engines.dask", "enqueue", "dask", "dask"),
    ("spooled_pipelines.engines.ray", "SpooledDatasink", "ray", "ray"),
    ("spooled_pipelines.airflow", "EnqueueBatchOperator", "airflow", "airflow"),
    ("spooled_pipelines.prefect", "enqueue_batch", "prefect", "prefect"),
    ("spooled_pipelines.dagster", "SpooledResource", "dagster", "dagster"),
]


@pytest.mark.parametrize(("module", "name", "lacks", "extra"), NEEDS)
def test_the_pip_line_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str, lacks: str, extra: str
) -> None:
    for loaded in tuple(sys.modules):
        if loaded.partition(".")[0] == lacks or loaded.startswith(module):
            monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, lacks, None)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'spooled-pipelines\[{extra}\]'"):
        getattr(import_module(module), name)
