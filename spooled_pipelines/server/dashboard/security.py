"""Protection against other sites that would act in the name of a signed-in user."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spooled_pipelines.server.core.errors import RefusedError, invalid

FORM_MAX_BYTES = 64 << 10
_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
)
_HEADERS = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    # Not "no-referrer": with it forms would come without the origin that is checked here.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


def _headers(frame_ancestors: Sequence[str], *, secure: bool) -> dict[str, str]:
    who = " ".join(frame_ancestors) or "'none'"
    policy = "; ".join((*_POLICY, f"frame-ancestors {who}"))
    headers = {**_HEADERS, "content-security-policy": policy}
    if not frame_ancestors:
        # For browsers without frame-ancestors; it cannot name sites that may.
        headers["x-frame-options"] = "DENY"
    if secure:
        # Browsers ask this host over TLS alone for a year.
        headers["strict-transport-security"] = "max-age=31536000"
    return headers


class SecureHeaders:
    """Middleware that puts the security headers on every answer, and lets nothing be cached."""

    def __init__(self, app: ASGIApp, frame_ancestors: Sequence[str], *, secure: bool) -> None:
        self._app = app
        self._headers = _headers(frame_ancestors, secure=secure)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, with_headers)


class Cookies:
    """The names of our cookies, and how they are set: never readable by scripts.

    `Lax` and not `Strict`: a link from elsewhere, such as Airflow's, finds its user signed in.
    """

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure
        # A browser takes a name with this prefix only as we set it, and from this host.
        prefix = "__Host-" if secure else ""
        self.session = f"{prefix}spooled-session"
        self.visitor = f"{prefix}spooled-visitor"

    def give(self, response: Response, name: str, value: str, seconds: int) -> None:
        """Set a cookie."""
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="lax",
        )

    def take(self, response: Response, name: str) -> None:
        """Let the browser forget one."""
        response.delete_cookie(name, path="/", secure=self._secure, httponly=True, samesite="lax")


class Origin:
    """The site that our forms come from: a public URL, or else the host that the request names."""

    def __init__(self, public_url: str | None) -> None:
        self._public = _origin(public_url) if public_url else None

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach it over TLS, whatever a proxy speaks with us."""
        return self._public is not None and self._public[0] == "https"

    def check(self, headers: Headers) -> None:
        """Raise RefusedError PERMISSION_DENIED where another site's page sent the request."""
        origin = headers.get("origin")
        foreign = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
        if origin is not None and self._public is not None:
            foreign = foreign or _origin(origin) != self._public
        elif origin is not None:
            foreign = foreign or urlsplit(origin).netloc != headers.get("host", "")
        if foreign:
            raise RefusedError(
                "PERMISSION_DENIED",
                "this form was sent from another site; behind a proxy, http_public_url has to be "
                "the address that browsers show",
            )


def _origin(url: str) -> tuple[str, str]:
    """Return scheme and host of a URL as browsers write them: without the port that is usual."""
    parts = urlsplit(url.lower())
    usual = {"https": ":443", "http": ":80"}.get(parts.scheme, "")
    return parts.scheme, parts.netloc.removesuffix(usual)


def check_token(form: Mapping[str, str], token: str | None) -> None:
    """Raise RefusedError PERMISSION_DENIED where the form is not one that this browser got."""
    given = form.get("token", "").encode()
    if not token or not secrets.compare_digest(given, token.encode()):
        raise RefusedError("PERMISSION_DENIED", "this form is too old; go back and load it again")


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form, the last of each name."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > FORM_MAX_BYTES:
            raise invalid(f"a form has at most {FORM_MAX_BYTES} bytes")
    try:
        fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=100)
    except ValueError as error:
        raise invalid(f"the body is not a form: {error}") from error
    return {name: values[-1] for name, values in fields.items()}


def local_path(value: str) -> str:
    """Return the path to go to after signing in; the start page where it may be another site's."""
    parts = urlsplit(value)
    is_ours = value.startswith("/") and not value.startswith("//") and not parts.netloc
    return value if is_ours and value.isprintable() and "\\" not in value else "/"
