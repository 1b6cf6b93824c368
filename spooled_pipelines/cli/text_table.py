"""Tables as text that fit a terminal: ids are shortened, numbers never, wide rows are turned."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from operator import attrgetter
from textwrap import wrap
from typing import TypeVar

from spooled_pipelines.cli.output import print_json, say
from spooled_pipelines.text import plain, shorten

T = TypeVar("T")

_GAP = "  "
# What a text is cut to at the narrowest, before the rows are turned.
_TEXT_SIGNS = 12
# What is left of an id at the shortest.
_ID_SIGNS = 6
_NUMBER = re.compile(r"-?[\d,]+(\.\d+)?( [a-z%]+)?")
_JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BATCH_ID = re.compile(r"b_[0-9a-f]{32}")


def print_list(
    found: Sequence[T],
    columns: Mapping[str, str | Callable[[T], object]],
    *,
    as_json: bool,
    nothing: str,
    limit: int | None = None,
    which: str = "newest",
) -> None:
    """Print each as JSON for programs, or rows for people.

    Args:
        found: what is printed.
        columns: by the column's name, the attribute or the function that gives its values.
        as_json: whether it is for programs.
        nothing: what is said on standard error where there is nothing.
        limit, which: the most that were asked for, and which of all these are.
    """
    if as_json:
        for each in found:
            print_json(each)
        return
    values = [attrgetter(of) if isinstance(of, str) else of for of in columns.values()]
    rows = [[value(each) for value in values] for each in found]
    print_rows(list(columns), rows, nothing=nothing)
    if len(found) == limit:
        say(f"the {which} {limit:,}; --limit shows more")


def print_rows(
    names: Sequence[str], rows: Sequence[Sequence[object]], *, nothing: str = ""
) -> None:
    """Print rows below their names; on a terminal so that each fits a line, or turned.

    `nothing` is said on standard error instead of names without rows.
    """
    if nothing and not rows:
        say(nothing, sys.stderr)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in table_lines(names, rows, width):
        say(line)


def table_lines(
    names: Sequence[str], rows: Sequence[Sequence[object]], width: int | None
) -> list[str]:
    """Return the lines of a table that is at most `width` characters wide; None: as wide as it is.

    Where there is no room, ids are shortened so that they still differ, then texts are cut; where
    that is not enough, each row becomes lines of names and values.
    """
    texts = [[cell_text(value) for value in row] for row in rows]
    columns = [list(column) for column in zip(*texts, strict=True)] or [[] for _ in names]
    if width is not None and not _fits(names, columns, width):
        narrow = [shortened_ids(column) for column in columns]
        if not (_fits(names, narrow, width) or _cut(names, narrow, width)):
            return _turned(names, texts, width)
        columns = narrow
    widths = [max(map(len, [name, *column])) for name, column in zip(names, columns, strict=True)]
    right = [bool(column) and all(_is_number(text) for text in column) for column in columns]
    lines = [list(names), ["-" * each for each in widths], *map(list, zip(*columns, strict=True))]
    return [
        _GAP.join(
            text.rjust(each) if aligned else text.ljust(each)
            for text, each, aligned in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    ]


def cell_text(value: object) -> str:
    """Return a value in one line; numbers with separators of thousands."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return plain(" ".join(str(value).split()))


def shortened_ids(column: Sequence[str]) -> list[str]:
    """Return a column of ids with as much of each as tells them apart; any other as it is.

    Of jobs the last digits differ, of batches the first ones.
    """
    given = {text for text in column if text}
    if not given:
        return list(column)
    of_jobs = all(map(_JOB_ID.fullmatch, given))
    if not of_jobs and not all(map(_BATCH_ID.fullmatch, given)):
        return list(column)
    for signs in range(_ID_SIGNS, 34):
        parts = {text: text[-signs:] if of_jobs else text[: signs + 2] for text in given}
        if len(set(parts.values())) == len(given):
            break
    return [
        ("…" + parts[text] if of_jobs else parts[text] + "…") if text else "" for text in column
    ]


def _is_number(text: str) -> bool:
    return not text or _NUMBER.fullmatch(text) is not None


def _width(names: Sequence[str], columns: Sequence[Sequence[str]]) -> int:
    widest = (max(map(len, [name, *column])) for name, column in zip(names, columns, strict=True))
    return sum(widest) + len(_GAP) * (len(names) - 1)


def _fits(names: Sequence[str], columns: Sequence[Sequence[str]], width: int) -> bool:
    return _width(names, columns) <= width


def _cut(names: Sequence[str], columns: list[list[str]], width: int) -> bool:
    """Cut the longest texts until the table fits; return whether it does."""
    while (over := _width(names, columns) - width) > 0:
        longest, place = max(
            (0 if all(map(_is_number, column)) else max(map(len, column), default=0), place)
            for place, column in enumerate(columns)
        )
        room = max(_TEXT_SIGNS, len(names[place]), longest - over)
        if longest <= room:
            return False
        # The next longest is cut as well before this one becomes unreadable.
        room = max(room, longest - max(1, over // 2))
        columns[place] = [shorten(text, room) for text in columns[place]]
    return True


def _turned(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    label = max(map(len, names), default=0)
    lines = []
    for number, row in enumerate(rows, 1):
        lines.append(f"-[ {number} ]".ljust(min(width, label + 20), "-"))
        for name, text in zip(names, row, strict=True):
            parts = wrap(text, max(width - label - 3, 10), break_on_hyphens=False) or [""]
            for first, part in zip_longest([name], parts, fillvalue=""):
                lines.append(f"{first:<{label}} | {part}".rstrip())
    return lines
