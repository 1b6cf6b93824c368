"""The blocks of code in the pages, with what their source says about running them.

An HTML comment on the line above a block, which readers do not see, says what a test has to know:

    <!-- not run: why it cannot run here -->
    <!-- not run (kubectl, docker): why -->     only lines that begin with one of these
    <!-- around: name -->                       prepared by that function of docs/around/PAGE.py
    <!-- server: --rate-limit 1 -->             needs a server with these arguments, for the page
    <!-- output -->                             this block is what the one before it prints
    <!-- long -->                               only in `make check-long`
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# What runs, by the language that the block names.
PROGRAMS = ("python", "console", "ipython")
# What is read by the program that it is for.
SETTINGS = ("toml", "yaml", "sql")
# What nobody runs: pictures made of letters, and what a program prints.
WORDS = ("", "text")
_FENCE = re.compile(
    r"(?P<marks>(?:^[ ]*<!--[^\n]*-->\n)*)"
    r"^(?P<indent>[ ]*)```(?P<language>[\w-]*)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.DOTALL | re.MULTILINE,
)
_MARK = re.compile(r"<!--\s*([a-z ]+?)(?:\s+\(([^)]*)\))?(?::\s*(.*?))?\s*-->")


@dataclass(frozen=True)
class Block:
    """One block: where it stands, what it is, and what its source says about it.

    Attributes:
        page: the page's path below the repository, such as `docs/worker.md`.
        number: its place among the blocks of the page, from 0.
        title: the file that it is, where it is one.
        not_run: why it cannot run here; None where it can.
        left_out: beginnings of lines that alone cannot.
    """

    page: str
    number: int
    language: str
    title: str
    text: str
    not_run: str | None
    left_out: tuple[str, ...]
    around: str
    server: str
    is_output: bool
    is_long: bool

    @property
    def name(self) -> str:
        return f"{self.page}[{self.number}]"

    @property
    def runs(self) -> bool:
        return self.language in PROGRAMS and (self.not_run is None or bool(self.left_out))


def pages() -> list[Path]:
    """README and every page, in the order of their names."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, from its top to its end."""
    return list(_blocks(page))


def _blocks(page: Path) -> Iterator[Block]:
    for number, found in enumerate(_FENCE.finditer(page.read_text())):
        marks = {name: (some, said) for name, some, said in _MARK.findall(found["marks"])}
        lines, reason = marks.get("not run", ("", None))
        indent = found["indent"]
        text = "".join(line.removeprefix(indent) for line in found["text"].splitlines(True))
        yield Block(
            page=str(page.relative_to(ROOT)),
            number=number,
            language=found["language"],
            title=found["title"] or "",
            text=text,
            not_run=reason,
            left_out=tuple(word.strip() for word in lines.split(",") if word.strip()),
            around=marks.get("around", ("", ""))[1],
            server=marks.get("server", ("", ""))[1],
            is_output="output" in marks,
            is_long="long" in marks,
        )
