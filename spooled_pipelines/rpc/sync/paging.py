# Generated from spooled_pipelines/rpc/aio/paging.py by `make generate`: do not edit.
"""Read a list that the server hands out page by page."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from spooled_pipelines.errors import ServerError
from spooled_pipelines.rpc.sync.connection import Connection
from spooled_pipelines.text import shown
from spooled_pipelines.wire.limits import PAGE_JOBS_MAX
from spooled_pipelines.wire.methods import Method

# More pages without an entry come of no list.
EMPTY_PAGES_MAX = 100


def endless(method: Method, token: str) -> ServerError:
    """Return the error for pages that do not end."""
    return ServerError(
        f"{method.name}: the server's pages do not end: it gave the page token {shown(token)} "
        f"twice, or more than {EMPTY_PAGES_MAX} pages without an entry"
    )


def paged(
    connection: Connection, method: Method, request: Any, items: str, limit: int | None = None
) -> Generator[Any, None]:
    """Return the messages of a list, over as many calls as it takes.

    Args:
        connection: the server.
        method: the call that returns a page.
        request: its message, with `page_size` and `page_token`, which are set here.
        items: the field of a page that holds the messages.
        limit: the largest number of messages; None: all.
    """

    def ask(request: Any) -> Any:
        return connection.unary(method, request, repeatable=True)

    return followed(ask, method, request, items, limit)


def followed(
    ask: Callable[[Any], Any],
    method: Method,
    request: Any,
    items: str,
    limit: int | None = None,
) -> Generator[Any, None]:
    """Yield the same, of pages that `ask` returns."""
    left = limit
    empty_pages, seen = 0, set[str]()
    while left is None or left > 0:
        request.page_size = PAGE_JOBS_MAX if left is None else min(left, PAGE_JOBS_MAX)
        page = ask(request)
        found = getattr(page, items)[:left]
        for message in found:
            yield message
            left = None if left is None else left - 1
        request.page_token = page.next_page_token
        if not request.page_token:
            return
        # Of a list that never ends, no page is worth another call.
        empty_pages = 0 if found else empty_pages + 1
        if request.page_token in seen or empty_pages > EMPTY_PAGES_MAX:
            raise endless(method, request.page_token)
        seen.add(request.page_token)
