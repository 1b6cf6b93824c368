"""The dashboard as an ASGI app: its addresses."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from spooled_pipelines.server.auth import ApiKeys
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.dashboard import probes
from spooled_pipelines.server.dashboard.context import (
    View,
    WebContext,
    action,
    refused,
    signed_in,
    web_of,
)
from spooled_pipelines.server.dashboard.rendering import STATIC, Pages
from spooled_pipelines.server.dashboard.security import Cookies, Origin, SecureHeaders
from spooled_pipelines.server.dashboard.sessions import Session, Sessions
from spooled_pipelines.server.dashboard.views import batches, jobs, queues, sign_in, workers
from spooled_pipelines.server.rpc import InProcessClient
from spooled_pipelines.server.telemetry.metrics import Metrics
from spooled_pipelines.server.telemetry.readiness import Readiness


@dataclass(frozen=True)
class AppContext:
    """The parts of the server that the dashboard is about."""

    calls: InProcessClient
    keys: ApiKeys
    clock: Clock
    readiness: Readiness
    metrics: Metrics
    # The sites that may show it in a frame.
    frame_ancestors: tuple[str, ...]
    # Where browsers reach it, if not at its own address.
    public_url: str | None = None


class _KeptFiles(StaticFiles):
    """Files whose address changes with their content."""

    async def get_response(self, path: str, scope: object) -> Response:
        response = await super().get_response(path, scope)  # type: ignore[arg-type]
        response.headers["cache-control"] = "max-age=31536000, immutable"
        return response


def make_app(context: AppContext, *, secure: bool) -> Starlette:
    """Return the dashboard as an ASGI app; `secure` says that it is served over TLS by itself."""
    origin = Origin(context.public_url)
    secure = secure or origin.is_secure
    sessions = Sessions(context.keys, context.clock, context.calls.count)
    cookies = Cookies(secure=secure)
    web = WebContext(context.calls, sessions, cookies, origin, Pages(), context.clock)
    app = Starlette(
        routes=[
            Route("/healthz", probes.healthz),
            Route("/readyz", probes.readyz(context.readiness)),
            Route("/metrics", probes.metrics_for_operators(context.metrics, context.keys)),
            Mount("/static", _KeptFiles(directory=STATIC)),
            Route("/", _start),
            Route("/sign-in", sign_in.sign_in_form),
            Route("/sign-in", sign_in.sign_in, methods=["POST"]),
            _post("/sign-out", action(sign_in.sign_out)),
            Route("/queues", signed_in(queues.queues)),
            Route("/queues/{name}", signed_in(queues.queue)),
            _post("/queues/{name}/pause", action(queues.pause)),
            _post("/queues/{name}/resume", action(queues.resume)),
            Route("/queues/{name}/dead-letters", signed_in(queues.dead_letters)),
            _post("/queues/{name}/dead-letters/retry", action(queues.retry_dead_letters)),
            Route("/batches", signed_in(batches.batches)),
            Route("/batches/{batch_id}", signed_in(batches.batch)),
            _post("/batches/{batch_id}/cancel", action(batches.cancel)),
            _post("/batches/{batch_id}/retry", action(batches.retry)),
            Route("/jobs", signed_in(jobs.find_job)),
            Route("/jobs/{job_id}", signed_in(jobs.job)),
            Route("/jobs/{job_id}/contents", signed_in(jobs.contents)),
            Route("/workers", signed_in(workers.workers)),
        ],
        middleware=[Middleware(SecureHeaders, context.frame_ancestors, secure=secure)],
        exception_handlers={HTTPException: _no_such_page, Exception: _failed},
    )
    app.state.web = web
    return app


def _post(path: str, view: View) -> Route:
    return Route(path, view, methods=["POST"])


async def _start(_: Request) -> Response:
    return RedirectResponse("/queues", 303)


async def _no_such_page(request: Request, error: Exception) -> Response:
    code = error.status_code if isinstance(error, HTTPException) else 404
    if code == 405:
        response = refused(
            request, RefusedError("INVALID_ARGUMENT", "this address does not accept forms")
        )
        response.status_code = code
        return response
    session = _session(request)
    return refused(request, RefusedError("NOT_FOUND", "there is no page at this address"), session)


async def _failed(request: Request, _: Exception) -> Response:
    # uvicorn logs the error itself; visitors are not told what it was.
    return refused(request, RefusedError("INTERNAL", "the server failed; its log says more"))


def _session(request: Request) -> Session | None:
    web = web_of(request)
    return web.sessions.find(request.cookies.get(web.cookies.session))
