"""Around the page of batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.doc_setup import client_in, working


@contextmanager
def page(page: Any) -> Iterator[None]:
    with client_in(page):
        yield


@contextmanager
def as_settled(page: Any) -> Iterator[None]:
    written: list[Any] = []
    page.names.update(write=written.append, keep=written.append)
    with working(page.names["client"], "orders"):
        yield
    assert written
