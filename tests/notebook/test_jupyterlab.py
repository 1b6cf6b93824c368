"""The quick start in a real JupyterLab, as its user sees it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import save_screenshot
from tests.support.jupyterlab import running_lab
from tests.support.server_process import ServerProcess

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"
CELL_MILLISECONDS = 90_000


# A browser, a server of pages and a kernel take most of a minute; test_notebooks runs the
# same cells in a kernel alone.
@pytest.mark.long
def test_the_quick_start_is_read_run_and_saved(
    open_page: Callable[..., Any],
    start_server: Callable[..., ServerProcess],
    tmp_path: Path,
) -> None:
    server = start_server()
    folder = tmp_path / "notebooks"
    folder.mkdir()
    shutil.copy(NOTEBOOK, folder)
    named = {"SPOOLED_GRPC_ADDRESS": server.address, "SPOOLED_API_KEY": server.api_key}
    with running_lab(folder, tmp_path / "runtime", **named) as address:
        page = open_page(f"{address}/tree/quickstart.ipynb")
        page.set_viewport_size({"width": 1200, "height": 1500})
        # Until the kernel is there, nothing can be run.
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=CELL_MILLISECONDS)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        outputs = page.locator(".jp-OutputArea-output")
        view = outputs.filter(has_text="watched for").first
        view.filter(has_text="settled").wait_for(timeout=CELL_MILLISECONDS)
        page.locator(".jp-OutputArea-output img").first.wait_for(timeout=CELL_MILLISECONDS)
        outputs.filter(has_text="nothing was enqueued twice").nth(1).wait_for(
            timeout=CELL_MILLISECONDS
        )
        assert "500 of 500 jobs (100%)" in view.inner_text()
        assert "5 × above the limit for Cork" in view.inner_text()
        outputs.filter(has_text="What this call does").first.scroll_into_view_if_needed()
        save_screenshot(page, "jupyterlab-enqueue")
        view.scroll_into_view_if_needed()
        save_screenshot(page, "jupyterlab-watch")
        page.locator(".jp-OutputArea-output img").first.scroll_into_view_if_needed()
        save_screenshot(page, "jupyterlab-plot")
        page.keyboard.press("Control+s")
        page.wait_for_function("!document.title.startsWith('*')")
    saved = json.loads((folder / "quickstart.ipynb").read_text())
    text = json.dumps(saved)
    assert "495 completed, 5 failed" in text
    assert server.api_key not in text
