"""Workers: where they run, and when they last sent a heartbeat."""

from __future__ import annotations

from starlette.responses import Response

from spooled_pipelines.server.dashboard.context import SignedInRequest
from spooled_pipelines.wire.queue_admin_v1 import ListWorkersRequest

_PAGE = 500


async def workers(ctx: SignedInRequest) -> Response:
    """Answer GET /workers."""
    answer = await ctx.call(ListWorkersRequest(page_size=_PAGE))
    return ctx.show("workers.html", workers=answer.workers, most=_PAGE)
