"""One signs in with an API key, and is out when the key is."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from spooled_pipelines.server.dashboard import sessions
from spooled_pipelines.server.services.encoding import timestamp
from spooled_pipelines.wire import keys_v1 as keys
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.certificates import make_certificate
from tests.support.paged_wire import SESSION, PagedWire, read
from tests.support.wire import KEY, OTHER_KEY, answered

STATS = spooled.GetQueueStatsRequest(queue_name="q")


async def test_a_link_from_elsewhere_leads_to_its_page_after_signing_in(paged: PagedWire) -> None:
    async with paged.visitor(None) as visitor:
        answer = await visitor.get("/batches/b-1?status=deadletter")
        assert answer.status_code == 303
        where = answer.headers["location"]
        assert where == "/sign-in?next=%2Fbatches%2Fb-1%3Fstatus%3Ddeadletter"
        answer = await visitor.sign_in(KEY, "%2Fbatches%2Fb-1%3Fstatus%3Ddeadletter")
        # As the form has it, which a browser would send decoded.
        assert answer.headers["location"] == "/"
        part = await visitor.get("/queues", hx_request="true")
        assert part.status_code == 200
    async with paged.visitor(None) as visitor:
        part = await visitor.get("/queues", hx_request="true")
        assert (part.text, part.headers["hx-redirect"]) == ("", "/sign-in?next=%2Fqueues")


async def test_the_cookie_is_for_the_browser_alone(paged: PagedWire) -> None:
    async with paged.visitor(None) as visitor:
        answer = await visitor.sign_in(KEY)
        (cookie,) = [c for c in answer.headers.get_list("set-cookie") if c.startswith(SESSION)]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "Secure" not in cookie
        assert KEY not in cookie
        for path in ("/queues", "/batches", "/workers", "/jobs"):
            assert KEY not in await visitor.page(path)


@pytest.mark.parametrize(
    "wanted",
    ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", "a\tb"],
)
async def test_signing_in_never_leads_to_another_site(paged: PagedWire, wanted: str) -> None:
    async with paged.visitor(None) as visitor:
        page = await visitor.client.get("/sign-in", params={"next": wanted})
        assert 'name="next" value="/"' in page.text
        token = visitor.client.cookies["spooled-visitor"]
        form = {"token": token, "key": KEY, "next": wanted}
        answer = await visitor.client.post("/sign-in", data=form)
        assert answer.headers["location"] == "/"
        again = await visitor.client.get("/sign-in", params={"next": wanted})
        assert again.headers["location"] == "/"


async def test_wrong_keys_of_the_page_and_of_calls_count_together(tmp_path: Path) -> None:
    async with PagedWire(tmp_path, wrong_keys_per_minute=3) as wire, wire.visitor(None) as visitor:
        for _ in range(2):
            answer = await visitor.sign_in("sp_test_guess")
            assert answer.status_code == 401
            assert "is not one that this server knows" in read(answer.text)
            assert "sp_test_guess" not in answer.text
        with answered("UNAUTHENTICATED"):
            await wire.call(STATS, key="sp_test_another_guess")
        answer = await visitor.sign_in("sp_test_guess")
        assert (answer.status_code, "too many wrong" in answer.text) == (429, True)
        with answered("RESOURCE_EXHAUSTED", "too many wrong"):
            await wire.call(STATS, key="sp_test_another_guess")
        assert (await visitor.client.get("/metrics")).status_code == 401
        wire.clock.advance(60)
        assert (await visitor.sign_in(KEY)).status_code == 303


async def test_a_key_that_ended_ends_its_sessions(paged: PagedWire) -> None:
    revoked = await paged.new_key("read")
    request = keys.CreateKeyRequest(name="short", role="read")
    request.expires_at.CopyFrom(timestamp(paged.clock.now() + 60_000))
    expiring = await paged.call(request)
    async with paged.visitor(revoked.secret) as one, paged.visitor(expiring.secret) as two:
        await one.page("/queues")
        await paged.call(keys.RevokeKeyRequest(id=revoked.key.id))
        part = await one.get("/queues", hx_request="true")
        assert part.headers["hx-redirect"].startswith("/sign-in")
        await two.page("/queues")
        paged.clock.advance(60)
        assert (await two.get("/queues")).status_code == 303
        assert "has expired" in (await two.sign_in(expiring.secret)).text


async def test_signing_in_often_signs_out_no_other_key(
    paged: PagedWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_OF_KEY_MAX", 3)
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 5)
    one, two = [(await paged.new_key("read")).secret for _ in range(2)]
    async with paged.visitor(OTHER_KEY) as other, paged.visitor() as first:
        async with paged.visitor(None) as busy:
            for key in (one, two, one, two, one, two, one, two):
                busy.client.cookies.clear()
                await busy.sign_in(key)
            await busy.page("/queues")
        await other.page("/queues")
        # All of its organization share what is left.
        assert (await first.get("/queues")).status_code == 303


async def test_signing_in_counts_for_the_rate_limit(tmp_path: Path) -> None:
    async with PagedWire(tmp_path, rate_limit=1) as wire, wire.visitor(None) as visitor:
        statuses = []
        for _ in range(3):
            visitor.client.cookies.clear()
            statuses.append((await visitor.sign_in(KEY)).status_code)
    assert statuses == [303, 303, 429]


async def test_a_session_ends_after_half_a_day_and_on_signing_out(paged: PagedWire) -> None:
    async with paged.visitor() as visitor, paged.visitor() as other:
        cookie = visitor.client.cookies[SESSION]
        assert (await visitor.act("/sign-out")).headers["location"] == "/sign-in"
        visitor.client.cookies.set(SESSION, cookie)
        assert (await visitor.get("/queues")).status_code == 303
        paged.clock.advance(12 * 3_600 - 1)
        await other.page("/queues")
        paged.clock.advance(1)
        assert (await other.get("/queues")).status_code == 303


async def test_a_cookie_that_was_there_before_is_not_the_session(paged: PagedWire) -> None:
    async with paged.visitor(None) as visitor, paged.visitor(OTHER_KEY) as attacker:
        planted = attacker.client.cookies[SESSION]
        visitor.client.cookies.set(SESSION, planted, domain="127.0.0.1", path="/")
        token = visitor.client.cookies.get("spooled-visitor")
        assert token is None
        visitor.client.cookies.delete(SESSION)
        await visitor.sign_in(KEY)
        assert visitor.client.cookies[SESSION] != planted


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_ticket_does_not_outlive_the_authority_that_let_its_client_in(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    pem, key, authority = (tmp_path / name for name in ("cert.pem", "key.pem", "clients.pem"))
    made, client, another = make_certificate(), make_certificate("client"), make_certificate("x")
    made.write(pem, key)
    authority.write_bytes(client.pem)
    client.write(tmp_path / "client.pem", tmp_path / "client.key")
    context = ssl.create_default_context(cadata=made.pem.decode())
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
    files = {"tls_cert": str(pem), "tls_key": str(key), "tls_client_ca": str(authority)}
    async with PagedWire(tmp_path, http="localhost:0", **files) as wire:

        def ask(session: ssl.SSLSession | None = None) -> tuple[ssl.SSLSession | None, bool | None]:
            """Return the TLS session, and whether the one that was given was taken."""
            url = urlsplit(wire.url)
            with (
                socket.create_connection((url.hostname, url.port), 20) as plain,
                context.wrap_socket(plain, server_hostname="localhost", session=session) as link,
            ):
                link.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                # With TLS 1.3 a refusal, and a ticket, come with what is read.
                if b"200 OK" not in link.recv(4096):
                    raise ConnectionError("no answer")
                return link.session, link.session_reused

        session, _ = await asyncio.to_thread(ask)
        assert (await asyncio.to_thread(ask, session))[1] is True
        authority.write_bytes(another.pem)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(ask, session)


async def test_over_tls_cookies_are_secure_and_certificates_may_change(tmp_path: Path) -> None:
    pem, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    first, second = make_certificate(), make_certificate()
    first.write(pem, key)
    settings = {"tls_cert": str(pem), "tls_key": str(key), "http": "localhost:0"}
    wire = PagedWire(tmp_path, **settings)
    await wire.server.start()
    try:
        assert wire.url.startswith("https://localhost:")
        trusting = ssl.create_default_context(cadata=first.pem.decode())
        async with wire.visitor(None, verify=trusting) as visitor:
            answer = await visitor.sign_in(KEY)
            (cookie,) = [c for c in answer.headers.get_list("set-cookie") if SESSION in c]
            assert cookie.startswith("__Host-spooled-session=")
            assert "; Secure" in cookie
            assert "max-age" in answer.headers["strict-transport-security"]
            await visitor.page("/queues")
        second.write(pem, key)
        trusting = ssl.create_default_context(cadata=second.pem.decode())
        async with wire.visitor(None, verify=trusting) as visitor:
            await visitor.page("/sign-in")
    finally:
        await wire.server.stop()
