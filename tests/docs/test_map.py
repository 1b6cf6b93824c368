"""CONTRIBUTING and the page on architecture name files that exist, and every room."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "spooled_pipelines"
PAGES = ("CONTRIBUTING.md", "docs/architecture.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_]+(?:\.py|/)|[a-z_]+\.py)`", text)
    assert len(named) > 10
    there = [f"/{path.relative_to(ROOT)}" for path in PACKAGE.rglob("*")]
    there += [f"/{path.relative_to(ROOT)}" for path in (ROOT / "tests").rglob("*")]
    missing = {
        name for name in named if not any(path.endswith(f"/{name.rstrip('/')}") for path in there)
    }
    assert missing == set()


def test_the_map_has_every_room() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rooms = [path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]
    rooms += [path for path in (PACKAGE / "server").iterdir() if (path / "__init__.py").exists()]
    rooms += [path for path in (PACKAGE / "batch").iterdir() if (path / "__init__.py").exists()]
    assert {room.name for room in rooms if f" {room.name}/" not in text} == set()
