"""What every view works with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from spooled_pipelines.server.auth import SEES_PAYLOADS
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.dashboard.formatting import number
from spooled_pipelines.server.dashboard.rendering import Pages
from spooled_pipelines.server.dashboard.security import Cookies, Origin, check_token, form_of
from spooled_pipelines.server.dashboard.sessions import Session, Sessions
from spooled_pipelines.server.dashboard.throughput import Rates
from spooled_pipelines.server.rpc import InProcessClient

HTTP_STATUS: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
}


@dataclass(frozen=True)
class WebContext:
    """The server's calls, who is signed in, and how pages are made."""

    calls: InProcessClient
    sessions: Sessions
    cookies: Cookies
    origin: Origin
    pages: Pages
    clock: Clock
    rates: Rates = field(default_factory=Rates)


@dataclass(frozen=True)
class SignedInRequest:
    """A request of somebody who is signed in."""

    web: WebContext
    request: Request
    session: Session

    async def call(self, request: Any) -> Any:
        """Return the answer to an RPC made as this caller; RefusedError where it is refused."""
        return await self.web.calls.call(self.session.caller, request)

    def may(self, request_class: Any) -> bool:
        """Return whether the caller's role may make a call, so that no other is offered."""
        return self.web.calls.may(self.session.caller, request_class)

    @property
    def sees_payloads(self) -> bool:
        return self.session.caller.role in SEES_PAYLOADS

    @property
    def part(self) -> str:
        """The id of the part of the page that htmx asks for; empty for all of it."""
        is_part = self.request.headers.get("hx-request") == "true"
        return self.request.headers.get("hx-target", "live") if is_part else ""

    def query(self, name: str) -> str:
        """Return a field of the address without the blanks around it."""
        return self.request.query_params.get(name, "").strip()

    def show(self, template: str, **values: Any) -> Response:
        """Return a page of this template, or its live part."""
        notice = "" if self.part else self.session.take_notice()
        text = self.web.pages.render(
            template,
            ctx=self,
            caller=self.session.caller,
            token=self.session.token,
            part=self.part,
            path=self.request.url.path,
            notice=notice,
            now=self.web.clock.now(),
            **values,
        )
        return HTMLResponse(text)

    def done(self, notice: str, path: str) -> Response:
        """Return the redirect to the page that shows what an action did."""
        self.session.notice = notice
        return RedirectResponse(path, 303)

    def retried(self, count: int, path: str) -> Response:
        """Return the redirect to the page whose dead letters were retried."""
        notice = f"{number(count)} dead letters are back in the queue, with all their retries."
        if not count:
            notice = "No dead letter was retried: none has this text in its error."
        return self.done(notice, path)


Form = Mapping[str, str]
View = Callable[[Request], Awaitable[Response]]


def web_of(request: Request) -> WebContext:
    """Return the context of the app that answers this request."""
    web: WebContext = request.app.state.web
    return web


def signed_in(view: Callable[[SignedInRequest], Awaitable[Response]]) -> View:
    """Return a view for visitors who are signed in; others are sent to sign in first."""

    async def answer(request: Request) -> Response:
        web = web_of(request)
        session = web.sessions.find(request.cookies.get(web.cookies.session))
        if session is None:
            return _to_sign_in(request)
        try:
            return await view(SignedInRequest(web, request, session))
        except RefusedError as refusal:
            return refused(request, refusal, session)

    return answer


def action(view: Callable[[SignedInRequest, Form], Awaitable[Response]]) -> View:
    """Return such a view for what changes something: it takes only forms of this very session."""

    async def act(ctx: SignedInRequest) -> Response:
        ctx.web.origin.check(ctx.request.headers)
        form = await form_of(ctx.request)
        check_token(form, ctx.session.token)
        return await view(ctx, form)

    return signed_in(act)


def refused(request: Request, refusal: RefusedError, session: Session | None = None) -> Response:
    """Return the page that says why a request was refused."""
    status = HTTP_STATUS.get(refusal.code, 500)
    web = web_of(request)
    text = web.pages.render(
        "refused.html",
        caller=session.caller if session else None,
        token=session.token if session else "",
        ctx=SignedInRequest(web, request, session) if session else None,
        part="",
        path=request.url.path,
        notice="",
        status=status,
        message=refusal.message,
    )
    response = HTMLResponse(text, status)
    if refusal.retry_after is not None:
        response.headers["retry-after"] = str(refusal.retry_after)
    return response


def _to_sign_in(request: Request) -> Response:
    wanted = request.url.path
    if request.url.query:
        wanted += f"?{request.url.query}"
    if request.method != "GET":
        wanted = "/"
    address = f"/sign-in?next={quote(wanted, safe='')}"
    if request.headers.get("hx-request") == "true":
        # htmx would follow a redirect for the fragment alone; this takes the whole page there.
        return Response(headers={"hx-redirect": address})
    return RedirectResponse(address, 303)
