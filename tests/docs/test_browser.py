"""The browser that the tests of pages share, and what it copies of a page of the docs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import PICTURES, save_screenshot
from tests.support.doc_blocks import DOCS, ROOT

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_page_is_read_and_kept_as_a_picture(
    open_page: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(PICTURES, str(tmp_path))
    source = tmp_path / "page.html"
    source.write_text("<button onclick=\"this.textContent = 'pressed'\">press</button>")
    page = open_page(source.as_uri())
    page.get_by_role("button").click()
    assert page.get_by_role("button").inner_text() == "pressed"
    save_screenshot(page, "pressed")
    assert (tmp_path / "pressed.png").read_bytes().startswith(PNG)


def test_prompts_and_output_are_not_copied(open_page: Callable[..., Any], tmp_path: Path) -> None:
    source = tmp_path / "page.html"
    css = (DOCS / "copying.css").read_text()
    line = '<span class="gp">$ </span>ls\n<span class="go">a b\n</span>'
    source.write_text(f"<style>{css}</style><pre><code data-md-copying>{line}</code></pre>")
    assert open_page(source.as_uri()).locator("code").inner_text().strip() == "ls"
    assert "copying.css" in (ROOT / "mkdocs.yml").read_text()


def test_a_search_finds_words_within_names() -> None:
    (pattern,) = re.findall(r"separator: '(.+)'", (ROOT / "mkdocs.yml").read_text())
    assert re.split(pattern, "retry_failed") == ["retry", "failed"]
    assert "retries" in re.split(pattern, "`max_retries=0`, --max-retries")
    assert re.split(pattern, "Batch.wait(") == ["Batch", "wait", ""]
