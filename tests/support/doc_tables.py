"""Tables of the documentation, which tests hold to what they say."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def table_under(page: str, heading: str) -> list[tuple[str, ...]]:
    """Return the cells of the first table under a heading of a page, without its head."""
    section = (DOCS / page).read_text(encoding="utf-8").split(f"## {heading}\n")[1]
    lines = section.split("\n## ")[0].split("\n| ---")[1].split("\n\n")[0].splitlines()[1:]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
