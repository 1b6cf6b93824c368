"""Cards: a title, facts below each other, and sentences, as HTML and as text.

The HTML has no script, style sheet or picture, so every renderer shows it, a saved notebook keeps
it, and it is readable on light and dark backgrounds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as escape_html

from spooled_pipelines.text import plain

# Command lines in sentences.
_CODE, _AS_HTML = re.compile("`([^`]+)`"), r"<code>\1</code>"
_CELL = "text-align:left;padding:1px 12px 1px 0"


@dataclass(frozen=True, repr=False)
class Card:
    """A title with facts and sentences, which shows itself in a notebook.

    Attributes:
        title: one line.
        facts: names and values.
        lines: sentences below them.
        bar: shares of a whole with their colours, drawn above the facts.
        details: a heading, and texts that appear when it is clicked.
        link: the name of a fact that is a link, and its target.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    lines: Sequence[str] = ()
    bar: Sequence[tuple[float, str]] = ()
    details: tuple[str, Sequence[str]] | None = None
    link: tuple[str, str] | None = None

    def html(self) -> str:
        """Return the card as HTML; everything from the data is escaped."""
        rows = "".join(
            f"<tr><th style='{_CELL}'>{escape(name)}</th><td style='{_CELL}'>"
            f"{self._value(name, value)}</td></tr>"
            for name, value in self.facts
        )
        parts = [f"<div><b>{escape(self.title)}</b></div>", self._bar(), f"<table>{rows}</table>"]
        parts += [f"<div>{_CODE.sub(_AS_HTML, escape(line))}</div>" for line in self.lines]
        if self.details is not None and self.details[1]:
            heading, texts = self.details
            shown = "\n".join(escape(text) for text in texts)
            parts.append(
                f"<details><summary>{escape(heading)}</summary><pre>{shown}</pre></details>"
            )
        return "".join(parts)

    def text(self) -> str:
        """Return the card as text, for terminals and for readers of the saved file."""
        width = max((len(name) for name, _ in self.facts), default=0)
        lines = [self.title, *(f"  {name:<{width}}  {value}" for name, value in self.facts)]
        lines += [f"  {line}" for line in self.lines]
        if self.details is not None and self.details[1]:
            lines += [f"  {self.details[0]}:", *(f"    {text}" for text in self.details[1])]
        return plain("\n".join(lines))

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()

    def _value(self, name: str, value: str) -> str:
        if self.link is not None and self.link[0] == name:
            return f"<a href='{escape(self.link[1])}'>{escape(value)}</a>"
        return escape(value)

    def _bar(self) -> str:
        if not self.bar:
            return ""
        pieces = "".join(
            f"<div style='height:10px;width:{share:.2%};background:{colour}'></div>"
            for share, colour in self.bar
            if share > 0
        )
        return (
            "<div style='display:flex;width:100%;max-width:480px;margin:4px 0;"
            f"background:rgba(128,128,128,0.25)'>{pieces}</div>"
        )


def size(count: int) -> str:
    """Return a number of bytes for people, such as ``"1.2 MB"``."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:,.0f} {unit}" if unit == "bytes" else f"{amount:,.1f} {unit}"


def duration(seconds: float) -> str:
    """Return a duration for people: ``"3.2 s"``, ``"4 min 10 s"``, ``"2 h 5 min"``."""
    if seconds < 0.1:
        return "a moment"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def escape(text: str) -> str:
    """Return text from outside as HTML, with its invisible characters made visible."""
    return escape_html(plain(text))
