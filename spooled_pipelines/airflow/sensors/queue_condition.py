"""Conditions on a queue's statistics, such as ``pending == 0 and completed >= 1000``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from spooled_pipelines.errors import InvalidArgumentError

# Of the statistics; `open` are all those that are not settled.
NAMES = ("pending", "scheduled", "processing", "completed", "failed", "deadletter", "total", "open")
_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_ONE = re.compile(r"(\w+)\s*(==|!=|<=|>=|<|>)\s*(\d+)")
_AND = re.compile(r"\s+and\s+", re.IGNORECASE)

Condition = Callable[[Mapping[str, Any]], bool]


def check_conditions(text: str, argument: str) -> Condition:
    """What tells of a queue's statistics whether all of the conditions hold.

    Raises:
        InvalidArgumentError: it is no such text.
    """
    parts = [_ONE.fullmatch(part.strip()) for part in _AND.split(text)] if text.strip() else []
    if not parts or any(part is None or part[1] not in NAMES for part in parts):
        raise InvalidArgumentError(
            f"{argument} is {text!r}, and must be one or more comparisons of "
            f"{', '.join(NAMES)} with a number, joined by and: 'pending == 0 and completed >= 100'"
        )
    tests = [(part[1], _COMPARISONS[part[2]], int(part[3])) for part in parts if part]
    return lambda stats: all(compare(stats[name], number) for name, compare, number in tests)
