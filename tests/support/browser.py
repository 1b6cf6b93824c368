"""A headless Chromium, the one that the machine has: Playwright's own is not downloaded.

    def test_the_page_shows_it(open_page):
        page = open_page("http://127.0.0.1:8080")
        page.get_by_role("button", name="Save").click()
        save_screenshot(page, "saved")

All tests of a module share it, each with cookies and a cache of its own. While it runs, its event
loop counts as the thread's running one, so such a module cannot have asyncio tests.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# The names that it goes by on Debian, on other Linuxes and on CI machines.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox",  # as root it does not start otherwise
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
# A busy machine draws slowly; what never comes is still told within the test's own limit.
WAIT_SECONDS = 30.0
# A small window makes small pictures.
SIZE = {"width": 1100, "height": 720}
# The folder for the pictures of the documentation, when new ones are to be made.
PICTURES = "SPOOLED_SCREENSHOTS"


def executable() -> str | None:
    """The path of the machine's Chromium."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def running() -> Iterator[Browser]:
    """Give the browser; the test skips where there is no Chromium."""
    path = executable()
    if path is None:
        pytest.skip(f"no Chromium on this machine: none of {', '.join(NAMES)} is on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opening_pages(browser: Browser, **settings: Any) -> Iterator[Callable[..., Page]]:
    """Give `open_page(address)`; its pages end with the `with`.

    ``settings`` go to the browser's context, such as ``viewport`` or ``extra_http_headers``.
    """
    with browser.new_context(**{"viewport": SIZE, "locale": "en-GB", **settings}) as context:
        context.set_default_timeout(WAIT_SECONDS * 1000)

        def open_page(address: str = "about:blank") -> Page:
            page = context.new_page()
            page.goto(address)
            return page

        yield open_page


def save_screenshot(page: Page, name: str) -> None:
    """Keep the page as `<name>.png`, where pictures are asked for: each takes half a second."""
    if pictures := os.environ.get(PICTURES):
        page.screenshot(path=Path(pictures) / f"{name}.png", animations="disabled")
