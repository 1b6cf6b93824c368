"""What a browser is told, and what is taken from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.routing import Route

from spooled_pipelines.server.config.settings import ServerSettings
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.paged_wire import PagedWire, Reader, token_of
from tests.support.wire import KEY, struct

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


async def routes(wire: PagedWire) -> list[Route]:
    page = wire.server._dashboard
    assert page is not None
    return [route for route in page.app.routes if isinstance(route, Route)]


async def addresses(wire: PagedWire, method: str) -> list[str]:
    """Every address that takes this method, with something there."""
    await wire.fill_batch("b-1", "one", "two")
    dead = await wire.kill_one("boom")
    names = {"{name}": "q", "{batch_id}": "b-1", "{job_id}": dead}
    found = []
    for route in await routes(wire):
        path = route.path
        for name, value in names.items():
            path = path.replace(name, value)
        if method in (route.methods or ()):
            found.append(path)
    return found


async def test_every_answer_has_the_headers(paged: PagedWire) -> None:
    paths = await addresses(paged, "GET")
    assert len(paths) > 10
    async with paged.visitor() as visitor:
        for path in (*paths, "/static/page.css", "/nowhere", "/batches/none", "/queues/%00"):
            answer = await visitor.get(path)
            assert answer.status_code in (200, 303, 400, 401, 404), path
            for name, value in HEADERS.items():
                assert answer.headers[name] == value, path
            kept = "max-age" in answer.headers["cache-control"]
            assert kept == path.startswith("/static/"), path
            assert "server" not in answer.headers


async def test_a_page_that_is_named_may_show_this_one_in_a_frame(tmp_path: Path) -> None:
    named = ("https://airflow.example.org", "http://localhost:8080")
    async with PagedWire(tmp_path, http_frame_ancestors=named) as wire, wire.visitor() as visitor:
        headers = (await visitor.get("/queues")).headers
    rules = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert rules["frame-ancestors"] == " ".join(named)
    # It knows no names, and would forbid what was just allowed.
    assert "x-frame-options" not in headers


@pytest.mark.parametrize(
    "origin",
    [
        "airflow.example.org",
        "https://a.example/path",
        "https://a.example; script-src *",
        "'self'",
        "https://*",
        "http://*:*",
        "https://*.example.org",
        "",
    ],
)
def test_what_is_no_origin_does_not_get_into_the_header(origin: str) -> None:
    with pytest.raises(ValueError, match=r"http_frame_ancestors must be scheme, host and port"):
        ServerSettings(http_frame_ancestors=(origin,))


async def test_no_page_has_inline_code_or_asks_anybody_else(paged: PagedWire) -> None:
    paths = await addresses(paged, "GET")
    pages = []
    async with paged.visitor(None) as visitor:
        pages.append((await visitor.get("/sign-in")).text)
    async with paged.visitor() as visitor:
        pages += [(await visitor.get(path)).text for path in (*paths, "/nowhere")]
    for page in pages:
        for tag, attributes in Reader(page).elements:
            assert tag != "style"
            assert tag != "script" or attributes.get("src", "").startswith("/static/")
            for name, value in attributes.items():
                assert name != "style"
                assert not name.startswith("on")
                if name in ("src", "href", "action", "hx-get"):
                    assert (value or "").startswith(("/", "#")), value
                    assert not (value or "").startswith("//")


async def test_a_form_needs_the_token_of_its_own_session(paged: PagedWire) -> None:
    await paged.enqueue("q", payload=struct(n=1))
    paths = await addresses(paged, "POST")
    assert len(paths) >= 6
    async with paged.visitor() as visitor, paged.visitor() as other:
        foreign = token_of(await other.page("/queues"))
        before = await visitor.page("/queues/q")
        for path in set(paths) - {"/sign-in"}:
            for form in ({}, {"token": ""}, {"token": "wrong"}, {"token": foreign}):
                answer = await visitor.client.post(path, data=form)
                assert (answer.status_code, "load it again" in answer.text) == (403, True), path
        answer = await visitor.client.post("/sign-in", data={"token": foreign, "key": "x"})
        assert answer.status_code == 403
        assert token_of(before) == token_of(await visitor.page("/queues/q"))
    stats = await paged.call(spooled.GetQueueStatsRequest(queue_name="q"))
    assert (stats.deadletter, stats.pending) == (1, 2)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_a_form_from_another_site_is_refused(
    paged: PagedWire, headers: dict[str, str]
) -> None:
    await paged.enqueue()
    async with paged.visitor() as visitor:
        token = token_of(await visitor.page("/queues"))
        for path in ("/queues/q/pause", "/sign-in"):
            answer = await visitor.client.post(path, data={"token": token}, headers=headers)
            assert (answer.status_code, "another site" in answer.text) == (403, True)
        assert "paused" not in await visitor.page("/queues/q")


async def test_behind_a_proxy_with_tls_it_is_as_safe_as_with_tls_of_its_own(tmp_path: Path) -> None:
    public = "https://Spooled.example.org:443"
    async with PagedWire(tmp_path, http_public_url=public) as wire, wire.visitor(None) as visitor:
        page = await visitor.get("/sign-in")
        assert page.headers["strict-transport-security"] == "max-age=31536000"
        (cookie,) = page.headers.get_list("set-cookie")
        assert cookie.startswith("__Host-spooled-visitor=")
        assert "; Secure" in cookie
        form = {"token": token_of(page.text), "key": KEY}
        for origin, code in (
            ("https://spooled.example.org", 303),
            ("http://spooled.example.org", 403),
            ("https://evil.example", 403),
            # What the Host header says: a proxy's own choice.
            (wire.url.rstrip("/"), 403),
        ):
            # The browser's side has TLS, so it sends the cookie; this client's has none.
            headers = {"origin": origin, "cookie": cookie.partition(";")[0]}
            answer = await visitor.client.post("/sign-in", data=form, headers=headers)
            assert answer.status_code == code, origin
            assert code == 303 or "http_public_url" in answer.text


async def test_without_tls_nothing_is_promised_about_it(paged: PagedWire) -> None:
    async with paged.visitor(None) as visitor:
        assert "strict-transport-security" not in (await visitor.get("/sign-in")).headers


def test_a_public_url_is_an_origin() -> None:
    with pytest.raises(ValueError, match=r"http_public_url must be scheme, host and port"):
        ServerSettings(http_public_url="https://example.org/spooled")


async def test_what_is_no_form_is_refused(paged: PagedWire) -> None:
    async with paged.visitor() as visitor:
        for body in (b"token=" + b"x" * 70_000, b"\xff\xfe", b"&".join([b"a=1"] * 200)):
            answer = await visitor.client.post("/queues/q/pause", content=body)
            assert answer.status_code in (400, 403)
        assert (await visitor.client.post("/queues")).status_code == 405
        assert (await visitor.client.put("/queues/q/pause")).status_code == 405
