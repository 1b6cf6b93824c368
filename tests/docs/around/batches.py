"""Around the page of batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.doc_setup import client_in


@contextmanager
def page(page: Any) -> Iterator[None]:
    with client_in(page):
        yield
