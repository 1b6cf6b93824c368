# Generated from spooled_pipelines/rpc/aio/paging.py by `make generate`: do not edit.
"""Read a list that the server hands out page by page."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from spooled_pipelines.rpc.sync.connection import Connection
from spooled_pipelines.wire.limits import PAGE_JOBS_MAX
from spooled_pipelines.wire.methods import Method


def paged(
    connection: Connection, method: Method, request: Any, items: str, limit: int | None = None
) -> Generator[Any, None]:
    """Yield the messages of a list, over as many calls as it takes.

    Args:
        connection: the server.
        method: the call that returns a page.
        request: its message, with `page_size` and `page_token`, which are set here.
        items: the field of a page that holds the messages.
        limit: the largest number of messages; None: all.
    """
    left = limit
    while left is None or left > 0:
        request.page_size = PAGE_JOBS_MAX if left is None else min(left, PAGE_JOBS_MAX)
        page = connection.unary(method, request, repeatable=True)
        for message in getattr(page, items):
            yield message
            left = None if left is None else left - 1
        request.page_token = page.next_page_token
        if not request.page_token:
            return
