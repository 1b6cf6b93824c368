"""In Airflow's own pages and a real browser: a connection is made and tested, a run is watched."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.support.browser import save_screenshot
from tests.support.standalone import BUSY_SECONDS, KEY, World

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1800)]
# The first time, the API server reads its pages from the disk.
FIRST_MS = 600_000
LOOK_MS, LOOKS = 30_000, 20

OpenPage = Callable[[str], "Page"]


@pytest.fixture
def fill_in(open_page: OpenPage, world: World) -> Callable[..., Page]:
    """Fills in the form of a new connection, up to its Save button; gives the page."""

    def fill_in(conn_id: str, key: str) -> Page:
        page = open_page("about:blank")
        page.goto(f"{world.airflow.address}/connections", timeout=FIRST_MS)
        page.get_by_role("button", name="Add Connection").click(timeout=FIRST_MS)
        form = page.get_by_role("dialog")
        field(form, "connection_id").fill(conn_id)
        form.get_by_role("combobox").first.fill("spool")
        page.get_by_role("option", name="spooled").first.click()
        field(form, "host").fill(world.server.host)
        field(form, "port").fill(str(world.server.port))
        field(form, "password").fill(key)
        return page

    return fill_in


def see(page: Page, wanted: Locator) -> None:
    """Wait for it, and load the page again now and then: it does not always look by itself."""
    from playwright.sync_api import TimeoutError as LateError

    for _ in range(LOOKS):
        with contextlib.suppress(LateError):
            return wanted.wait_for(timeout=LOOK_MS)
        page.reload(timeout=FIRST_MS)
    return wanted.wait_for(timeout=LOOK_MS)


def field(form: Locator, name: str) -> Locator:
    return form.locator(f"input[name={name}]")


def test_the_form_names_its_fields_as_a_user_does_and_its_test_says_that_the_key_works(
    fill_in: Callable[..., Page],
) -> None:
    page = fill_in("spooled_works", KEY)
    form = page.get_by_role("dialog")
    assert field(form, "host").get_attribute("placeholder") == "grpc.spooled.cloud"
    assert field(form, "password").get_attribute("type") == "password"
    shown = form.inner_text()
    assert "API key" in shown
    # What a key has no use for is not asked for.
    assert "Login" not in shown
    assert "Schema" not in shown
    save_screenshot(page, "airflow-connection")
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    form.get_by_text("CA certificates").wait_for()
    assert "auto: on, except to localhost." in form.inner_text()
    assert_its_test_says(page, "spooled_works", True, "accepts the API key")


# `test_hook.py` has the verdict itself; in a browser it takes seconds to load the page again.
@pytest.mark.long
def test_the_form_s_test_says_that_a_wrong_key_does_not_work(fill_in: Callable[..., Page]) -> None:
    page = fill_in("spooled_fails", "sp_test_notthekeyatall00000000000000000")
    assert_its_test_says(page, "spooled_fails", False, "does not accept this API key")


def assert_its_test_says(page: Page, conn_id: str, works: bool, says: str) -> None:
    """Save the form, and let the page test the connection."""
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    row = page.get_by_role("row").filter(has_text=conn_id)
    with page.expect_response("**/api/v2/connections/test") as answered:
        row.get_by_role("button", name="Test Connection").click()
    answer: dict[str, Any] = answered.value.json()
    assert answer["status"] is works
    assert says in answer["message"]
    assert "sp_test" not in answer["message"]


# Minutes of a browser in Airflow's own pages, whose lists come when they come.
@pytest.mark.long
def test_a_run_is_started_and_watched_until_its_jobs_are_done(
    open_page: OpenPage, world: World
) -> None:
    world.airflow.knows(["watched"])
    page = open_page("about:blank")
    page.goto(f"{world.airflow.address}/dags/watched", timeout=FIRST_MS)
    page.get_by_role("button", name="Trigger").first.click(timeout=FIRST_MS)
    page.get_by_role("dialog").get_by_role("button", name="Trigger").click()
    (run_id,) = world.airflow.until(
        lambda: [run for run in world.airflow.runs("watched") if run.startswith("manual")],
        BUSY_SECONDS,
        "the run to be there",
    )
    run = f"{world.airflow.address}/dags/watched/runs/{quote(run_id)}"
    page.goto(run, timeout=FIRST_MS)
    waiting = page.get_by_role("row").filter(has_text="wait")
    see(page, waiting.get_by_text("Deferred"))
    with world.client() as client:
        for job in client.dequeue("watched", "worker", batch_size=20):
            client.complete(job)
    see(page, waiting.get_by_text("Success"))
    page.goto(f"{run}/tasks/enqueue", timeout=FIRST_MS)
    see(page, page.get_by_text("20 jobs created"))
    save_screenshot(page, "airflow-task")


@pytest.mark.long
@pytest.mark.parametrize("task_id", ["enqueue", "wait"])
def test_the_details_of_a_task_lead_to_its_batch(
    task_id: str, open_page: OpenPage, world: World
) -> None:
    world.airflow.knows(["watched"])
    run_id = f"links-{task_id}"
    world.airflow.trigger("watched", run_id, {})
    # A task that is deferred has its links already.
    world.airflow.task_is("watched", run_id, "wait", "deferred")
    world.airflow.linked("watched", run_id, task_id, "Spooled batch")
    page = open_page("about:blank")
    page.goto(
        f"{world.airflow.address}/dags/watched/runs/{run_id}/tasks/{task_id}/details",
        timeout=FIRST_MS,
    )
    link = page.locator("a[target=_blank]").get_by_text("Spooled batch", exact=True)
    save_screenshot(page, f"airflow-{task_id}-details")
    page.goto(str(link.get_attribute("href")))
    # The server's own page asks for the key once.
    page.locator("input[name=key]").fill(KEY)
    page.locator("input[name=key]").press("Enter")
    batch_id = world.airflow.returned("watched", run_id, "enqueue")["batch_id"]
    page.get_by_text(batch_id).first.wait_for()
    save_screenshot(page, "airflow-batch-link")
