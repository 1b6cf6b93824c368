"""What needs an extra that is not there names the pip line that brings it."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

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


# As an interpreter sees it in which only what the package always needs is installed.
_BARE = """
import sys

EXTRAS = {
    "prometheus_client", "starlette", "jinja2", "uvicorn", "grpc_health", "grpc_reflection",
    "psycopg", "psycopg_pool", "opentelemetry", "uvloop", "pandas", "IPython", "typer",
}

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
import spooled_pipelines.server.serve
from spooled_pipelines import connect

with connect(f"embedded:{sys.argv[1]}") as client:
    assert client.enqueue("q", {"a": 1}).created
"""


def test_a_server_needs_no_extra(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _BARE, str(tmp_path / "jobs.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
