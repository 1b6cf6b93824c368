"""Certificates that change on the disk: new connections get the new ones, open ones stay."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest

from spooled_pipelines.server.config.settings import ServerSettings
from spooled_pipelines.server.server import Server
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.certificates import Certificate, make_certificate

if TYPE_CHECKING:
    from typing_extensions import Self

KEY = "sp_test_tls"
FIRST, SECOND, CLIENT, OTHER_CLIENT = (
    make_certificate(name) for name in ("localhost", "localhost", "client", "other")
)


class TlsServer:
    """A server with TLS in this process, and the files that it has its certificates from."""

    def __init__(self, folder: Path, *, mutual: bool = False) -> None:
        self.pem, self.key = folder / "server.pem", folder / "server.key"
        self.authority = folder / "clients.pem"
        FIRST.write(self.pem, self.key)
        self.authority.write_bytes(CLIENT.pem)
        self._server = Server(
            ServerSettings(
                listen="localhost:0",
                store=f"sqlite:///{folder / 'jobs.db'}",
                api_keys=(KEY,),
                tls_cert=str(self.pem),
                tls_key=str(self.key),
                tls_client_ca=str(self.authority) if mutual else None,
            )
        )

    async def __aenter__(self) -> Self:
        await self._server.start()
        self.address = self._server.address
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop()

    async def presented(self) -> bytes:
        """The certificate that a new connection is shown."""
        host, _, port = self.address.rpartition(":")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        _, writer = await asyncio.open_connection(host, int(port), ssl=context)
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return bytes(found)

    def channel(self, trusted: Certificate, mine: Certificate | None = None) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(
            trusted.pem, mine.key if mine else None, mine.pem if mine else None
        )
        # Each with a connection of its own.
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(self.address, credentials, options)


async def ask(channel: grpc.aio.Channel) -> None:
    call = channel.unary_unary("/spooled.v1.QueueService/GetQueueStats")
    request = spooled.GetQueueStatsRequest(queue_name="q").SerializeToString()
    await call(request, metadata=(("x-api-key", KEY),), timeout=10)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[TlsServer]:
    async with TlsServer(tmp_path) as running:
        yield running


async def test_a_new_certificate_is_shown_to_new_connections(server: TlsServer) -> None:
    async with server.channel(FIRST) as old:
        await ask(old)
        assert await server.presented() == FIRST.der
        SECOND.write(server.pem, server.key)
        assert await server.presented() == SECOND.der
        async with server.channel(SECOND) as new:
            await ask(new)
        # The connection that was there is not disturbed.
        await ask(old)


async def test_a_file_that_is_replaced_as_a_whole_is_seen_as_well(
    server: TlsServer, tmp_path: Path
) -> None:
    """As Kubernetes and certbot do: another file, or another target of a link, takes its name."""
    other = tmp_path / "new.pem", tmp_path / "new.key"
    SECOND.write(*other)
    for file, name in zip(other, (server.pem, server.key), strict=True):
        link = tmp_path / f"{name.name}.link"
        link.symlink_to(file)
        link.replace(name)
    assert await server.presented() == SECOND.der


@pytest.mark.parametrize("what", ["noise", "empty", "other key", "gone"])
async def test_what_is_broken_is_said_once_and_the_old_one_stays(
    server: TlsServer, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    if what == "gone":
        server.key.unlink()
    elif what == "other key":
        server.key.write_bytes(SECOND.key)
    else:
        server.pem.write_bytes(b"" if what == "empty" else b"no certificate")
    for _ in range(3):
        assert await server.presented() == FIRST.der
    (record,) = [r for r in caplog.records if r.name == "spooled_pipelines.server.rpc.tls"]
    assert record.levelno == logging.ERROR
    assert "the old ones stay in use" in record.message
    assert str(server.key if what == "gone" else server.pem) in record.message
    assert "PRIVATE" not in record.message
    SECOND.write(server.pem, server.key)
    assert await server.presented() == SECOND.der


async def test_a_new_authority_of_clients_counts_for_new_connections(tmp_path: Path) -> None:
    async def is_let_in(server: TlsServer, client: Certificate | None) -> bool:
        async with server.channel(FIRST, client) as channel:
            try:
                await ask(channel)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return False
            return True

    async with TlsServer(tmp_path, mutual=True) as server, server.channel(FIRST, CLIENT) as known:
        await ask(known)
        assert not await is_let_in(server, OTHER_CLIENT)
        assert not await is_let_in(server, None)
        server.authority.write_bytes(OTHER_CLIENT.pem)
        assert await is_let_in(server, OTHER_CLIENT)
        assert not await is_let_in(server, CLIENT)
        await ask(known)


@pytest.mark.parametrize(
    ("pem", "key", "said"),
    [
        (FIRST.pem, SECOND.key, "server.key are not the PEM files of a certificate and its"),
        (b"noise", FIRST.key, "server.pem"),
        (FIRST.pem, b"", "unencrypted private key"),
    ],
)
async def test_a_server_does_not_begin_with_what_is_broken(
    tmp_path: Path, pem: bytes, key: bytes, said: str
) -> None:
    server = TlsServer(tmp_path)
    server.pem.write_bytes(pem)
    server.key.write_bytes(key)
    with pytest.raises(ValueError, match="tls_cert") as caught:
        await server.__aenter__()
    assert said in str(caught.value)


async def test_an_authority_that_is_none_is_named(tmp_path: Path) -> None:
    server = TlsServer(tmp_path, mutual=True)
    server.authority.write_bytes(b"noise")
    with pytest.raises(ValueError, match=r"tls_client_ca .*clients\.pem is not a PEM file"):
        await server.__aenter__()
