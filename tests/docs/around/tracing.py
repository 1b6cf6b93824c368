"""Around the page of tracing: the handler of its worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def scoring(page: Any) -> Iterator[None]:
    Path("scoring.py").write_text("def score(job):\n    return {}\n")
    yield
