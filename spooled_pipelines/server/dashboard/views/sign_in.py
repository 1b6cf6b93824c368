"""Signing in with an API key, and out."""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.dashboard.context import HTTP_STATUS, Form, Visit, desk_of, refused
from spooled_pipelines.server.dashboard.security import (
    check_origin,
    check_token,
    form_of,
    local_path,
)
from spooled_pipelines.server.dashboard.sessions import SESSION_SECONDS

_VISIT_SECONDS = 3_600


async def sign_in_form(request: Request) -> Response:
    """GET /sign-in"""
    desk = desk_of(request)
    if desk.sessions.find(request.cookies.get(desk.cookies.session)) is not None:
        return RedirectResponse(local_path(request.query_params.get("next", "/")), 303)
    return _form(request, request.query_params.get("next", "/"))


async def sign_in(request: Request) -> Response:
    """POST /sign-in"""
    desk = desk_of(request)
    form: Form = {}
    try:
        check_origin(request.headers)
        form = await form_of(request)
        check_token(form, request.cookies.get(desk.cookies.visitor))
        host = request.client.host if request.client else ""
        cookie = desk.sessions.begin(form.get("key", "").strip(), host)
    except RefusedError as refusal:
        if refusal.code not in ("UNAUTHENTICATED", "RESOURCE_EXHAUSTED"):
            return refused(request, refusal)
        message = refusal.message
        if refusal.code == "UNAUTHENTICATED" and not form.get("key", "").strip():
            message = "give an API key"
        return _form(request, form.get("next", "/"), message, HTTP_STATUS[refusal.code])
    # A fresh cookie for a fresh session: what somebody put into the browser before is void.
    desk.sessions.end(request.cookies.get(desk.cookies.session))
    response = RedirectResponse(local_path(form.get("next", "/")), 303)
    desk.cookies.give(response, desk.cookies.session, cookie, SESSION_SECONDS)
    desk.cookies.take(response, desk.cookies.visitor)
    return response


async def sign_out(visit: Visit, _: Form) -> Response:
    """POST /sign-out"""
    cookies = visit.desk.cookies
    visit.desk.sessions.end(visit.request.cookies.get(cookies.session))
    response = RedirectResponse("/sign-in", 303)
    cookies.take(response, cookies.session)
    return response


def _form(request: Request, wanted: str, message: str = "", status: int = 200) -> Response:
    desk = desk_of(request)
    token = request.cookies.get(desk.cookies.visitor) or secrets.token_urlsafe(32)
    text = desk.pages.render(
        "sign_in.html",
        caller=None,
        visit=None,
        token=token,
        part="",
        path="/sign-in",
        notice="",
        wanted=local_path(wanted),
        message=message,
    )
    response = HTMLResponse(text, status)
    desk.cookies.give(response, desk.cookies.visitor, token, _VISIT_SECONDS)
    return response
