"""A tab in Airflow's own pages shows the batch of a task, to whoever may see the task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest

from tests.support.standalone import KEY, World

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1800)]
# The first time, the API server reads its pages from the disk.
FIRST_MS = 600_000
# Airflow's pages say this where a task is not mapped.
UNMAPPED = quote("{MAP_INDEX}")


def watch(world: World, run_id: str) -> None:
    """A run of `watched` whose batch waits for somebody to work on it."""
    world.airflow.knows(["watched"])
    world.airflow.trigger("watched", run_id, {})
    world.airflow.task_is("watched", run_id, "wait", "deferred")
    world.airflow.linked("watched", run_id, "wait", "Spooled batch")


def answer(world: World, task: str, token: str | None = None) -> httpx.Response:
    token = world.airflow._token if token is None else token
    return httpx.get(
        f"{world.airflow.address}/spooled/batch/{task}",
        headers={"authorization": f"Bearer {token}"},
        timeout=120,
        trust_env=False,
    )


def test_airflow_leads_from_a_task_to_the_page_of_its_batch(world: World) -> None:
    watch(world, "tab")
    batch_id = world.airflow.returned("watched", "tab", "enqueue")["batch_id"]
    for task in ("enqueue", "wait"):
        led = answer(world, f"watched/tab/{task}/{UNMAPPED}")
        assert led.status_code == 303
        assert led.headers["location"] == f"{world.server.page}batches/{batch_id}"
    for nothing in ("watched/tab/wait/7", "watched/never/wait/-1"):
        told = answer(world, nothing)
        assert told.status_code == 200
        assert "no Spooled batch yet" in told.text
    assert answer(world, f"watched/tab/wait/{UNMAPPED}", token="nobody").status_code in (401, 403)


# Minutes of a browser in Airflow's own pages.
@pytest.mark.long
def test_the_tab_shows_the_batch_inside_airflow(
    open_page: Callable[[str], Page], screenshot: Callable[[Page, str], Path], world: World
) -> None:
    watch(world, "framed")
    batch_id = world.airflow.returned("watched", "framed", "enqueue")["batch_id"]
    page = open_page("about:blank")
    task = f"{world.airflow.address}/dags/watched/runs/framed/tasks/wait"
    page.goto(task, timeout=FIRST_MS)
    page.get_by_role("link", name="Spooled batch").click(timeout=FIRST_MS)
    inside = page.frame_locator("iframe[title='Spooled batch']")
    # The server's own page asks for the key once.
    inside.locator("input[name=key]").fill(KEY, timeout=FIRST_MS)
    inside.locator("input[name=key]").press("Enter")
    inside.get_by_text(batch_id).first.wait_for()
    assert page.url.startswith(world.airflow.address)
    screenshot(page, "airflow-batch-tab")
    with world.client() as client:
        while jobs := client.dequeue("watched", "worker", batch_size=100):
            for job in jobs:
                client.complete(job)
    # It looks again by itself, in the frame too.
    inside.get_by_text("Every row is done.").wait_for(timeout=60_000)


@pytest.mark.parametrize(("said", "tabs"), [("True", ["Spooled batch"]), ("", [])])
def test_the_tab_is_there_where_the_configuration_asks_for_it(said: str, tabs: list[str]) -> None:
    program = (
        "import json; from airflow.plugins_manager import get_plugin_info as found;"
        "views = [view['name'] for plugin in found() for view in plugin['external_views']"
        " if plugin['name'] == 'spooled'];"
        "print(json.dumps(views))"
    )
    told = {"AIRFLOW__SPOOLED__BATCH_TAB": said} if said else {}
    shown = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(shown.stdout.splitlines()[-1]) == tabs
    assert "spooled" not in shown.stderr
