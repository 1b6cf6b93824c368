"""Signing in with an API key, and out."""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.dashboard.context import (
    HTTP_STATUS,
    Form,
    SignedInRequest,
    refused,
    web_of,
)
from spooled_pipelines.server.dashboard.security import check_token, form_of, local_path
from spooled_pipelines.server.dashboard.sessions import SESSION_SECONDS

_SIGN_IN_SECONDS = 3_600


async def sign_in_form(request: Request) -> Response:
    """Answer GET /sign-in."""
    web = web_of(request)
    if web.sessions.find(request.cookies.get(web.cookies.session)) is not None:
        return RedirectResponse(local_path(request.query_params.get("next", "/")), 303)
    return _form(request, request.query_params.get("next", "/"))


async def sign_in(request: Request) -> Response:
    """Answer POST /sign-in."""
    web = web_of(request)
    form: Form = {}
    try:
        web.origin.check(request.headers)
        form = await form_of(request)
        check_token(form, request.cookies.get(web.cookies.visitor))
        host = request.client.host if request.client else ""
        cookie = web.sessions.begin(form.get("key", "").strip(), host)
    except RefusedError as refusal:
        if refusal.code not in ("UNAUTHENTICATED", "RESOURCE_EXHAUSTED"):
            return refused(request, refusal)
        message = refusal.message
        if refusal.code == "UNAUTHENTICATED" and not form.get("key", "").strip():
            message = "give an API key"
        return _form(request, form.get("next", "/"), message, HTTP_STATUS[refusal.code])
    # A new cookie for a new session: one that somebody planted in the browser is void.
    web.sessions.end(request.cookies.get(web.cookies.session))
    response = RedirectResponse(local_path(form.get("next", "/")), 303)
    web.cookies.give(response, web.cookies.session, cookie, SESSION_SECONDS)
    web.cookies.take(response, web.cookies.visitor)
    return response


async def sign_out(ctx: SignedInRequest, _: Form) -> Response:
    """Answer POST /sign-out."""
    cookies = ctx.web.cookies
    ctx.web.sessions.end(ctx.request.cookies.get(cookies.session))
    response = RedirectResponse("/sign-in", 303)
    cookies.take(response, cookies.session)
    return response


def _form(request: Request, wanted: str, message: str = "", status: int = 200) -> Response:
    web = web_of(request)
    token = request.cookies.get(web.cookies.visitor) or secrets.token_urlsafe(32)
    text = web.pages.render(
        "sign_in.html",
        caller=None,
        ctx=None,
        token=token,
        part="",
        path="/sign-in",
        notice="",
        wanted=local_path(wanted),
        message=message,
    )
    response = HTMLResponse(text, status)
    web.cookies.give(response, web.cookies.visitor, token, _SIGN_IN_SECONDS)
    return response
