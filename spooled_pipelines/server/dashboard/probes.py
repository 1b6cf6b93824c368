"""What machines ask: whether the server lives, whether it takes calls, and its metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from spooled_pipelines.server.auth import ApiKeys, peer_of
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.dashboard.context import HTTP_STATUS
from spooled_pipelines.server.telemetry.metrics import CONTENT_TYPE, Metrics
from spooled_pipelines.server.telemetry.readiness import Readiness

Probe = Callable[[Request], Awaitable[Response]]


async def healthz(_: Request) -> Response:
    """Answer 200: the process lives, and its event loop turns."""
    return PlainTextResponse("ok\n")


def readyz(readiness: Readiness) -> Probe:
    """Answer 200 where the server can take calls, and otherwise 503 and why not."""

    async def ready(_: Request) -> Response:
        problem = await readiness.problem()
        return PlainTextResponse(f"{problem or 'ready'}\n", 503 if problem else 200)

    return ready


def metrics_for_operators(metrics: Metrics, keys: ApiKeys) -> Probe:
    """Return the probe with all organizations' metrics, for keys that the server started with."""

    async def told(request: Request) -> Response:
        host = request.client.host if request.client else ""
        try:
            caller = keys.authenticate(request.headers.items(), peer_of(host))
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
