"""The notebooks that people begin with, executed as they are in the repository."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from spooled_pipelines import connect
from tests.support.kernel import shown
from tests.support.sampling import sampled
from tests.support.server_process import ServerProcess

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
CELL_SECONDS = 180
# Those that every run of the tests executes: the first that a newcomer opens, as it is opened then,
# and the one with the most cells. A machine may be busy.
SAMPLE = ("alone", "failures")
pytestmark = pytest.mark.timeout(300)


async def execute(name: str, folder: Path, **environment: str) -> Any:
    """Run every cell in a kernel of its own, in `folder`; a failing cell raises."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    runner = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        startup_timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    await runner.async_execute(env={**os.environ, **environment})
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return notebook


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for the notebooks alone, since the queues have the names that people read."""
    with ServerProcess(tmp_path_factory.mktemp("notebooks") / "jobs.db") as running:
        yield running


class Executed(dict[str, tuple[Any, Path]]):
    """Each notebook after its last cell, and its folder; executed when it is first asked for.

    "alone" is the quick start where no server is named.
    """

    def __init__(self, server: ServerProcess, new_folder: pytest.TempPathFactory) -> None:
        super().__init__()
        self._server, self._new_folder = server, new_folder

    def __missing__(self, name: str) -> tuple[Any, Path]:
        server, folder = self._server, self._new_folder.mktemp(name)
        if name == "alone":
            executed = asyncio.run(execute("quickstart", folder))
        else:
            named = {"SPOOLED_GRPC_ADDRESS": server.address, "SPOOLED_API_KEY": server.api_key}
            executed = asyncio.run(execute(name, folder, **named))
        self[name] = executed, folder
        return self[name]


@pytest.fixture(scope="module")
def executed(
    own_server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Any, Path]]:
    return Executed(own_server, tmp_path_factory)


def outputs(notebook: Any) -> list[list[dict[str, Any]]]:
    """What each code cell showed, in order, as messages of a kernel."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[{"content": output} for output in cell.outputs] for cell in cells]


def html_of(notebook: Any) -> list[str]:
    return [shown(cell) for cell in outputs(notebook)]


def text_of(notebook: Any) -> list[str]:
    return [shown(cell, "text/plain") for cell in outputs(notebook)]


@pytest.mark.parametrize("name", sampled([*NAMES, "alone"], SAMPLE))
def test_it_runs_from_top_to_bottom_and_no_key_is_in_the_saved_file(
    executed: dict[str, tuple[Any, Path]], own_server: ServerProcess, name: str
) -> None:
    notebook, folder = executed[name]
    (saved,) = folder.glob("*.ipynb")
    text = saved.read_text()
    assert own_server.api_key not in text
    assert "sp_test_" not in text
    assert "sp_live_" not in text
    kinds = {output["content"]["output_type"] for cell in outputs(notebook) for output in cell}
    assert "error" not in kinds
    # Nothing that a renderer would have to run.
    assert "<script" not in text
    assert "application/javascript" not in text
    # A server was named, or the jobs are beside the notebook.
    assert (folder / "spooled.db").exists() == (name == "alone")


@pytest.mark.parametrize("name", sampled(["quickstart", "alone"], SAMPLE))
def test_the_quick_start_goes_from_rows_to_results(
    executed: dict[str, tuple[Any, Path]], name: str
) -> None:
    html, text = html_of(executed[name][0]), text_of(executed[name][0])
    assert ">500<" in html[1]
    assert "nothing was enqueued twice" in html[2]
    assert "nothing was enqueued twice" in html[-1]
    assert ("the jobs are kept in" in html[1]) == (name == "alone")
    # The view of an older cell was written again while a newer one ran, and was saved as such.
    assert ">settled<" in html[3]
    assert "500 of 500 jobs (100%)" in html[3]
    assert "5 × above the limit for Cork" in html[3]
    assert "495 completed, 5 failed" in text[5]


@pytest.mark.parametrize("name", sampled(["quickstart", "failures"], SAMPLE))
def test_the_picture_is_in_the_saved_notebook(
    executed: dict[str, tuple[Any, Path]], name: str
) -> None:
    pictures = [shown(cell, "image/png") for cell in outputs(executed[name][0])]
    assert any(picture.startswith("iVBOR") for picture in pictures)


@pytest.mark.long
def test_a_backfill_computes_each_day_once_and_the_wrong_one_again(
    executed: dict[str, tuple[Any, Path]], own_server: ServerProcess
) -> None:
    assert executed["backfill"]
    with connect(own_server.address, api_key=own_server.api_key) as client:
        stats = client.queue_stats("backfill")
        limits = client.queue_limits("backfill")
    assert (stats.completed, stats.total) == (8 * 40, 8 * 40)
    assert limits.jobs_per_second is None
    assert "<td>40</td>" in html_of(executed["backfill"][0])[1]


def test_what_failed_goes_back_and_what_cannot_be_helped_stays(
    executed: dict[str, tuple[Any, Path]], own_server: ServerProcess
) -> None:
    text = text_of(executed["failures"][0])
    assert "50" in text[6]
    html = html_of(executed["failures"][0])
    assert "50 × XXX is not a currency" in html[1]
    assert "50 × no rate for NOK" in html[1]
    with connect(own_server.address, api_key=own_server.api_key) as client:
        stats = client.queue_stats("payments")
    assert (stats.completed, stats.deadletter) == (250, 50)


@pytest.mark.long
def test_every_source_became_jobs(
    executed: dict[str, tuple[Any, Path]], own_server: ServerProcess
) -> None:
    assert executed["sources"]
    with connect(own_server.address, api_key=own_server.api_key) as client:
        totals = {
            name: client.queue_stats(f"from-{name}").completed
            for name in ("sql", "polars", "duckdb", "file")
        }
    assert totals == {"sql": 699, "polars": 300, "duckdb": 232, "file": 500}


@pytest.mark.parametrize("name", NAMES)
def test_the_notebooks_in_the_repository_hold_no_outputs(name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


def test_the_page_names_every_notebook() -> None:
    page = (FOLDER.parent / "docs" / "notebook.md").read_text()
    assert {name for name in NAMES if f"{name}.ipynb" not in page} == set()
