"""What a run of all tests takes a sample of, and the long run takes whole."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def sampled(names: Iterable[Any], sample: Collection[Any]) -> list[Any]:
    """Return arguments for `parametrize`: those that are not in the sample are for the long run."""
    long = pytest.mark.long
    return [name if name in sample else pytest.param(name, marks=long) for name in names]


def one_of(seeds: int) -> list[Any]:
    """Return so many seeds, of which every run takes the first."""
    return sampled(range(seeds), (0,))
