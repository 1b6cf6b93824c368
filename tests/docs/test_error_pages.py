"""Every error has a page: what it means, an example that runs, its causes, and what to do."""

from __future__ import annotations

import inspect

import pytest

from spooled_pipelines import errors
from spooled_pipelines.notebook import ConfirmationNeededError
from tests.support.doc_blocks import ROOT, blocks_of

PAGES = ROOT / "docs" / "errors"
CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, errors.SpooledError)
} | {"ConfirmationNeededError": ConfirmationNeededError}
SECTIONS = ["## An example", "## Causes", "## What to do"]


def test_every_error_has_a_page_and_every_page_an_error() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == set(CLASSES)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_page_has_causes_and_cures_and_shows_what_an_error_says(name: str) -> None:
    page = PAGES / f"{name}.md"
    lines = page.read_text().splitlines()
    assert lines[0] == f"# `{name}`"
    assert [line for line in lines if line.startswith("## ")] == SECTIONS
    for section in SECTIONS[1:]:
        assert lines[lines.index(section) + 2].startswith("- ")
    program, output = blocks_of(page)
    # What it prints is compared with what is shown, where the blocks are run.
    assert program.runs
    assert f"except {name}" in program.text
    assert output.is_output


def test_the_list_of_errors_leads_to_each_page() -> None:
    listed = (ROOT / "docs" / "errors.md").read_text()
    nav = (ROOT / "mkdocs.yml").read_text()
    for name in CLASSES:
        assert f"[`{name}`](errors/{name}.md)" in listed
        assert f"errors/{name}.md" in nav


def test_all_errors_are_exported() -> None:
    ours = {name for name, kind in CLASSES.items() if kind.__module__ == errors.__name__}
    assert ours <= set(errors.__all__)
