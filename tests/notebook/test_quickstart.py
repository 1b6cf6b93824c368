"""The notebook that people begin with, executed as it is in the repository."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from support.server_process import ServerProcess

from spooled_pipelines import connect

QUICKSTART = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"


def execute(folder: Path, *, queue: str = "orders") -> Any:
    """Run every cell in a kernel of its own, in `folder`; a failing cell raises."""
    notebook = nbformat.read(QUICKSTART, as_version=4)
    for cell in notebook.cells:
        # The servers of tests are shared, so the queue is the test's own.
        cell.source = cell.source.replace('"orders"', f'"{queue}"').replace(
            "-q orders", f"-q {queue}"
        )
    NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return notebook


def texts(notebook: Any) -> list[str]:
    """What each code cell showed, in order."""
    return [json.dumps(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]


def test_it_runs_against_a_server_and_never_shows_the_key(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOOLED_GRPC_ADDRESS", server.address)
    monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)
    queue = f"orders-{uuid.uuid4().hex[:8]}"
    notebook = execute(tmp_path, queue=queue)

    shown = texts(notebook)
    assert server.api_key not in json.dumps(notebook)
    assert "<td>500</td>" in shown[1]
    assert "nothing was enqueued twice" in shown[2]
    assert "nothing was enqueued twice" in shown[-1]
    assert "495 completed, 5 failed" in shown[4]
    with connect(server.address, api_key=server.api_key) as client:
        stats = client.queue_stats(queue)
    assert (stats.completed, stats.deadletter, stats.total) == (495, 5, 500)
    assert not (tmp_path / "spooled.db").exists()


def test_it_runs_with_nothing_set_up_and_says_where_the_jobs_are(tmp_path: Path) -> None:
    notebook = execute(tmp_path)
    shown = texts(notebook)
    assert "the jobs are kept in" in shown[1]
    assert "495 completed, 5 failed" in shown[4]
    assert (tmp_path / "spooled.db").exists()
    assert "sp_test_" not in json.dumps(notebook)


def test_the_notebook_in_the_repository_holds_no_outputs() -> None:
    notebook = nbformat.read(QUICKSTART, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
