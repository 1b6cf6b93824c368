"""How far an upload is: a bar, a line, or a callback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from spooled_pipelines.errors import InvalidArgumentError

ProgressOption: TypeAlias = bool | Callable[[int, int], object] | None


class Progress:
    """Told the number of acknowledged rows as it grows; close it."""

    def __init__(self, option: ProgressOption, total: int, queue_name: str) -> None:
        """`option`: True for a bar, or called with (acknowledged rows, all rows)."""
        self._total = total
        self._callback = option if callable(option) else None
        self._bar: Any = _bar(total, queue_name) if option is True else None

    def at(self, rows: int) -> None:
        if self._callback is not None:
            self._callback(rows, self._total)
        elif self._bar is not None:
            self._bar.update(rows - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def check_progress(option: object) -> None:
    """Refuse, before anything is done, what is no way to show progress."""
    if option is not None and not isinstance(option, bool) and not callable(option):
        raise InvalidArgumentError(
            f"progress is {option!r}, and must be True, or callable with (sent rows, all rows)"
        )


def _bar(total: int, queue_name: str) -> Any:
    title = f"enqueue to {queue_name}"
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return _Line(total, title)
    return tqdm(total=total, desc=title, unit="row", unit_scale=True)


class _Line:
    """What there is to see without tqdm: one line on stderr, every tenth of the way."""

    def __init__(self, total: int, title: str) -> None:
        self.n = 0
        self._total = total
        self._title = title
        self._tenths = 0

    def update(self, rows: int) -> None:
        self.n += rows
        tenths = 10 * self.n // max(self._total, 1)
        if tenths > self._tenths:
            self._tenths = tenths
            sys.stderr.write(f"{self._title}: {self.n} of {self._total} rows\n")

    def close(self) -> None:
        sys.stderr.flush()
