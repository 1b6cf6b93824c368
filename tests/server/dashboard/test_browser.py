"""The page in a real browser: by mouse, by keyboard, on a phone, in the dark, with hostile text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

import spooled_pipelines
from spooled_pipelines import SpooledClient
from spooled_pipelines.wire import keys_v1 as keys
from tests.support.browser import opening_pages, save_screenshot
from tests.support.paged_wire import HOSTILE, SCRIPT
from tests.support.ports import HeldPort
from tests.support.sampling import sampled
from tests.support.server_process import API_KEY, ServerProcess
from tests.support.wire import method_named

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Opener = Callable[..., "Page"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """With its page; every test has queues and batches of its own."""
    folder = tmp_path_factory.mktemp("page")
    # A port of its own, so that the page is where it was after a restart.
    with closing(HeldPort()) as page, ServerProcess(folder / "jobs.db", *at(page)) as running:
        yield running


def at(page: HeldPort) -> tuple[str, str]:
    return "--http", f"127.0.0.1:{page.number}"


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[SpooledClient]:
    with spooled_pipelines.connect(server.address, api_key=API_KEY) as client:
        yield client


def other_key(server: ServerProcess) -> str:
    """An admin key of another organization."""
    method = method_named("CreateKey")
    request = keys.CreateKeyRequest(organization="other", name="other", role="admin")
    with grpc.insecure_channel(server.address) as channel:
        create = channel.unary_unary(
            method.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.response_class.FromString,
        )
        return str(create(request, metadata=(("x-api-key", API_KEY),), timeout=10).secret)


@pytest.fixture
def visit(open_page: Opener, server: ServerProcess) -> Callable[..., Page]:
    """`visit(path)`: signed in; what the browser complains about fails the test."""
    return lambda path="/", **options: visited(open_page, server, path, **options)


def visited(open_page: Opener, server: ServerProcess, path: str, key: str = API_KEY) -> Page:
    page = open_page()
    page.on("pageerror", lambda error: pytest.fail(f"the page failed: {error}"))
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    page.on("console", refuse_violations)
    page.on("request", lambda request: ask_nobody_else(request.url, server.page))
    page.goto(server.page.rstrip("/") + path)
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()
    return page


def refuse_violations(message: object) -> None:
    text = str(getattr(message, "text", message))
    if "Content Security Policy" in text or "Refused to" in text:
        pytest.fail(text)


def ask_nobody_else(url: str, ours: str) -> None:
    if not url.startswith((ours, "data:", "about:")):
        pytest.fail(f"the page asked {url}")


def rows(count: int, prefix: str) -> list[dict[str, object]]:
    return [{"id": f"{prefix}-{number}", "amount": number * 1.5} for number in range(count)]


def work(client: SpooledClient, queue: str, count: int, **errors: int) -> None:
    """Take jobs of a queue: the first end with these errors, so many each; the others complete."""
    ends = [error for error, times in errors.items() for _ in range(times)]
    for number in range(count):
        (job,) = client.dequeue(queue, "etl-1")
        if number < len(ends):
            client.fail(job, ends[number], retry=False)
        else:
            client.complete(job, result={"ok": True})


def test_every_action_by_mouse(
    visit: Callable[..., Page], client: SpooledClient, tmp_path: Path
) -> None:
    batch = client.enqueue_batch(rows(6, "a"), "orders", key="id", name="2026-11-24")
    work(client, "orders", 3, TimeoutError=2)
    page = visit("/queues/orders")
    save_screenshot(page, "page-acting")
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("Queue orders is paused: nobody gets a job of it.").wait_for()
    assert client.dequeue("orders", "etl-1") == []
    page.get_by_role("button", name="Resume").click()
    page.get_by_text("Queue orders hands out jobs again.").wait_for()
    page.get_by_role("link", name="2 dead letters").click()
    page.get_by_label("Retry those whose error has").fill("Timeout")
    page.get_by_role("button", name="Retry").click()
    page.get_by_text("2 dead letters are back in the queue").wait_for()
    work(client, "orders", 2, ValueError=1)
    page.goto(page.url.partition("/queues")[0] + f"/batches/{batch.id}")
    page.get_by_text("Retry dead letters").click()
    page.get_by_label("Those whose error has").fill("Value")
    page.get_by_role("button", name="Retry").click()
    page.get_by_text("1 dead letters are back in the queue").wait_for()
    page.get_by_text("Cancel the batch").click()
    page.get_by_role("button", name="Cancel what has not started").click()
    page.get_by_text("4 jobs of this batch are cancelled.").wait_for()
    assert batch.stats().cancelled == 4
    page.get_by_label("Find jobs that are").select_option("cancelled")
    page.get_by_role("button", name="Find", exact=True).click()
    page.locator("#found tbody tr").nth(3).wait_for()
    assert page.locator("#found tbody tr").count() == 4
    page.locator("#found tbody a").first.click()
    page.get_by_text("Show what is in it").click()
    page.get_by_text('"amount"').wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("API key").wait_for()
    page.goto(page.url.partition("/sign-in")[0] + "/queues")
    assert "/sign-in" in page.url


def test_a_page_lives_without_being_loaded_again(
    visit: Callable[..., Page], client: SpooledClient
) -> None:
    batch = client.enqueue_batch(rows(4, "live"), "live", key="id", name="live")
    page = visit(f"/batches/{batch.id}")
    page.evaluate("window.here = true")
    page.get_by_text("Retry dead letters").click()
    page.get_by_role("link", name="live", exact=True).last.focus()
    work(client, "live", 4, Boom=1)
    page.get_by_text("1 row became dead letters.").wait_for()
    assert page.evaluate("window.here") is True
    # What was open is open, and what had the focus has it.
    assert page.get_by_label("Those whose error has").is_visible()
    assert page.evaluate("document.activeElement.textContent") == "live"
    assert "1 dead letters" in (page.locator("svg.bar").first.get_attribute("aria-label") or "")


def test_everything_is_reached_by_keyboard(
    visit: Callable[..., Page], client: SpooledClient
) -> None:
    client.enqueue_batch(rows(2, "keys"), "keys", key="id", name="by-keyboard")
    page = visit("/queues")
    page.reload()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "keys":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="keys", exact=True).wait_for()
    page.locator("#control").focus()
    page.keyboard.press("Enter")
    page.get_by_text("Queue keys is paused").wait_for()
    page.keyboard.press("g")
    page.keyboard.press("b")
    page.get_by_role("heading", name="Batches").wait_for()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "queue"
    page.keyboard.type("keys")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="by-keyboard").focus()
    page.keyboard.press("Enter")
    page.locator("summary", has_text="Cancel the batch").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("2 jobs of this batch are cancelled.").wait_for()


def test_hostile_text_neither_runs_nor_breaks_the_page(
    visit: Callable[..., Page], client: SpooledClient, tmp_path: Path
) -> None:
    payload = [{"id": HOSTILE, SCRIPT: HOSTILE}]
    batch = client.enqueue_batch(payload, "hostile", key="id", name=f"{SCRIPT}\u202e")
    client.register_worker("hostile", worker_id="w", hostname=SCRIPT, version="\u202e")
    (job,) = client.dequeue("hostile", "w")
    client.fail(job, HOSTILE, retry=False)
    page = visit(f"/batches/{batch.id}")
    for path in (
        f"/batches/{batch.id}",
        f"/batches/{batch.id}?status=deadletter&text={SCRIPT}",
        "/batches",
        "/queues/hostile",
        "/queues/hostile/dead-letters",
        "/workers",
        f"/jobs/{job.id}",
        f"/jobs/{job.id}/contents",
        f"/queues/{SCRIPT}",
    ):
        page.goto(page.url.split("/", 3)[0] + "//" + page.url.split("/")[2] + path)
        wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
        assert not wide, path
        assert page.locator("main img").count() == 0
        assert page.locator("main script").count() == 0
    save_screenshot(page, "page-hostile")


def test_two_organizations_do_not_see_each_other(
    server: ServerProcess, client: SpooledClient, chromium: Browser
) -> None:
    batch = client.enqueue_batch(rows(1, "mine"), "mine-alone", key="id", name="mine-alone")
    with opening_pages(chromium) as open_page:
        page = visited(open_page, server, "/queues", other_key(server))
        page.get_by_text("No queue yet").wait_for()
        for path in (f"batches/{batch.id}", "queues/mine-alone"):
            page.goto(server.page + path)
            page.get_by_text("Not here").wait_for()
        page.goto(server.page + "batches")
        page.get_by_text("No batch yet").wait_for()
        assert page.get_by_text("mine-alone").count() == 0


@pytest.mark.parametrize("scheme", sampled(["light", "dark"], ["dark"]))
def test_it_fits_a_phone_and_is_readable_by_night(
    server: ServerProcess,
    client: SpooledClient,
    chromium: Browser,
    tmp_path: Path,
    scheme: str,
) -> None:
    batch = client.enqueue_batch(
        rows(4, "phone"), "a-queue-with-quite-a-long-name", key="id", name="nightly-2026-11-24"
    )
    phone = {"viewport": {"width": 360, "height": 640}, "color_scheme": scheme}
    with opening_pages(chromium, **phone) as open_page:
        page = visited(open_page, server, "/queues")
        paths = ("queues", f"queues/{batch.queue_name}", "batches", f"batches/{batch.id}", "jobs")
        for path in (*paths, "workers"):
            page.goto(server.page + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
            for name in ("a", "button"):
                low = page.locator(f"main {name}").evaluate_all(CONTRASTS)
                assert not [found for found in low if found < 4.5], (path, name, low)
        page.goto(server.page + f"batches/{batch.id}")
        save_screenshot(page, f"page-phone-{scheme}")


# Of what the text of each element has against what is behind it, as WCAG counts it.
CONTRASTS = """elements => elements.map(element => {
  const light = color => {
    const [r, g, b] = color.match(/[0-9.]+/g).map(Number).map(value => value / 255)
      .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = element;
  while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)"
      && behind.parentElement) behind = behind.parentElement;
  const two = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
  const [low, high] = two.map(light).sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
})"""


def test_a_server_that_is_away_is_said_until_it_is_back(tmp_path: Path, open_page: Opener) -> None:
    with closing(HeldPort()) as held, ServerProcess(tmp_path / "jobs.db", *at(held)) as server:
        page = visited(open_page, server, "/queues")
        server.kill()
        page.get_by_text("The server does not answer.").wait_for()
        server.restart()
        # Sessions are in the server's memory: it asks to sign in again, and leads back.
        page.get_by_label("API key").wait_for()
        assert "next=%2Fqueues" in page.url
