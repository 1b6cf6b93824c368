"""What machines ask: whether the server lives, whether it takes calls, what its numbers are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from spooled_pipelines.server.auth.authentication import KeyRing
from spooled_pipelines.server.auth.failed_auth_limiter import peer_of
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.dashboard.context import HTTP_STATUS
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.server.telemetry.metrics import CONTENT_TYPE, Metrics

_READY_SECONDS = 2.0
Probe = Callable[[Request], Awaitable[Response]]


async def healthz(_: Request) -> Response:
    """The process lives, and its event loop turns."""
    return PlainTextResponse("ok\n")


def readyz(store: JobStore, is_draining: Callable[[], bool]) -> Probe:
    """The store answers, and the server is not about to end."""

    async def ready(_: Request) -> Response:
        if is_draining():
            return PlainTextResponse("the server is stopping\n", 503)
        try:
            await asyncio.wait_for(store.queue_names(1), _READY_SECONDS)
        except (RefusedError, asyncio.TimeoutError):
            return PlainTextResponse("the store does not answer\n", 503)
        return PlainTextResponse("ready\n")

    return ready


def metrics_for_operators(metrics: Metrics, keys: KeyRing) -> Probe:
    """Prometheus, for a key that the server was started with: they are of all organizations."""

    async def told(request: Request) -> Response:
        host = request.client.host if request.client else ""
        try:
            caller = keys.caller(request.headers.items(), peer_of(host))
            if not caller.is_operator:
                raise RefusedError(
                    "PERMISSION_DENIED",
                    "only a key that the server was started with may read the metrics of all "
                    "organizations",
                )
        except RefusedError as refusal:
            response = PlainTextResponse(f"{refusal.message}\n", HTTP_STATUS[refusal.code])
            if refusal.code == "UNAUTHENTICATED":
                response.headers["www-authenticate"] = "Bearer"
            if refusal.retry_after is not None:
                response.headers["retry-after"] = str(refusal.retry_after)
            return response
        return Response(await metrics.text(), media_type=CONTENT_TYPE)

    return told
