"""The walks through the tree lead along files that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"


def test_every_file_that_a_walk_names_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)`", PAGE.read_text())
    assert named
    assert [name for name in named if not (ROOT / "spooled_pipelines" / name).is_file()] == []
