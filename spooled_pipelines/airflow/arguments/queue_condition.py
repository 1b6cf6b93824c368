"""Conditions on a queue's statistics, such as ``pending == 0 and completed >= 1000``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from spooled_pipelines.errors import InvalidArgumentError

# The fields of the statistics; `open` counts the jobs that are not settled.
NAMES = ("pending", "scheduled", "processing", "completed", "failed", "deadletter", "total", "open")
_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_COMPARISON = re.compile(r"(\w+)\s*(==|!=|<=|>=|<|>)\s*(\d+)")
_AND = re.compile(r"\s+and\s+", re.IGNORECASE)

# What it means that the server knows no job of the queue: perhaps its name is wrong.
OnMissing: TypeAlias = Literal["wait", "success", "fail"]
Condition: TypeAlias = Callable[[Mapping[str, Any]], bool]


def parse(text: str, argument: str) -> Condition:
    """Return a function that says whether a queue's statistics fulfil all of the comparisons.

    Raises:
        InvalidArgumentError: the text is not a condition; the message names the argument.
    """
    parts = (
        [_COMPARISON.fullmatch(part.strip()) for part in _AND.split(text)] if text.strip() else []
    )
    if not parts or any(part is None or part[1] not in NAMES for part in parts):
        raise InvalidArgumentError(
            f"{argument} must be one or more comparisons of {', '.join(NAMES)} with a number, "
            f"joined by and, such as 'pending == 0 and completed >= 100', got {text!r}"
        )
    tests = [(part[1], _COMPARISONS[part[2]], int(part[3])) for part in parts if part]
    return lambda stats: all(compare(stats[name], number) for name, compare, number in tests)
