"""Around the page of notebooks: a worker in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.doc_setup import client_in, working


@contextmanager
def page(page: Any) -> Iterator[None]:
    import matplotlib as mpl

    mpl.use("agg")
    with client_in(page) as client, working(client, "orders"):
        yield
    assert Path("orders.png").stat().st_size > 1_000
