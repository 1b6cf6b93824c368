"""Getting to a server: addresses, keys, TLS, readiness, and what is said where it fails."""

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines import AsyncSpooledClient, SpooledClient, connect, errors
from spooled_pipelines.rpc.retry import RetryPolicy
from spooled_pipelines.rpc.settings import TLS, ConnectionSettings
from tests.support.server_process import ServerProcess
from tests.support.types import OpenClient, StartServer
from tests.support.waiting import aeventually

ONCE = RetryPolicy(max_attempts=1)
KEY = "sp_live_secret0123456789"


def test_the_environment_says_where_and_with_which_key(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch, queue: str
) -> None:
    monkeypatch.setenv("SPOOLED_GRPC_ADDRESS", server.address)
    monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)
    with connect() as client:
        assert client.queue_stats(queue).total == 0
        assert client.settings.api_key_source == "SPOOLED_API_KEY"


def test_arguments_win_over_the_environment(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch, queue: str
) -> None:
    monkeypatch.setenv("SPOOLED_GRPC_ADDRESS", "localhost:1")
    monkeypatch.setenv("SPOOLED_API_KEY", "wrong")
    with connect(server.address, api_key=server.api_key) as client:
        assert client.queue_stats(queue).total == 0


def test_without_any_address_it_is_the_usual_port_here() -> None:
    with connect(api_key=KEY) as client:
        assert client.settings.address == "localhost:50051"


@pytest.mark.parametrize("make", [connect, AsyncSpooledClient, SpooledClient])
def test_without_a_key_it_is_said_at_once_how_to_give_one(make: Any) -> None:
    with pytest.raises(errors.AuthenticationError) as caught:
        make("localhost:1")
    assert "api_key=" in caught.value.message
    assert "SPOOLED_API_KEY" in caught.value.message


async def test_settings_are_as_good_as_arguments(
    open_client: OpenClient, server: ServerProcess, queue: str
) -> None:
    settings = ConnectionSettings(server.address, api_key=server.api_key)
    client = open_client(address=settings)
    assert (await client.queue_stats(queue)).total == 0
    assert client.settings is settings


def test_settings_and_arguments_do_not_mix() -> None:
    settings = ConnectionSettings("localhost:1", api_key=KEY)
    with pytest.raises(errors.InvalidArgumentError):
        SpooledClient(settings, api_key="other")


async def test_a_wrong_key_is_traced_to_its_source(
    open_client: OpenClient, server: ServerProcess, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOOLED_API_KEY", KEY)
    client = open_client(address=server.address)
    with pytest.raises(errors.AuthenticationError) as caught:
        await client.enqueue(queue, {})
    assert "SPOOLED_API_KEY" in caught.value.message
    assert KEY not in str(caught.value)
    assert caught.value.code == "UNAUTHENTICATED"
    client = open_client(address=server.address, api_key=KEY)
    with pytest.raises(errors.AuthenticationError) as caught:
        await client.enqueue(queue, {})
    assert "api_key argument" in caught.value.message


async def test_no_server_is_told_with_how_to_start_one(open_client: OpenClient, queue: str) -> None:
    client = open_client(address="localhost:1", api_key=KEY, retry=ONCE)
    with pytest.raises(errors.UnavailableError) as caught:
        await client.queue_stats(queue)
    assert "localhost:1" in caught.value.message
    assert "spooled-pipelines serve" in caught.value.message
    assert caught.value.reason == "unreachable"


async def test_no_host_is_told(open_client: OpenClient, queue: str) -> None:
    client = open_client(address="nohost.invalid:1", api_key=KEY, tls=False, retry=ONCE)
    with pytest.raises(errors.UnavailableError) as caught:
        await client.queue_stats(queue)
    assert caught.value.reason == "no_such_host"
    assert "nohost.invalid" in caught.value.message


async def test_ready_means_connected(any_client: AsyncSpooledClient) -> None:
    await any_client.wait_for_ready()
    await any_client.wait_for_ready(0.5)


async def test_not_ready_says_why_in_the_time_it_was_given(open_client: OpenClient) -> None:
    client = open_client(address="localhost:1", api_key=KEY)
    # Without that time it would wait for ever.
    with pytest.raises(errors.UnavailableError) as caught:
        await client.wait_for_ready(0.5)
    assert "spooled-pipelines serve" in caught.value.message


async def test_ready_waits_for_a_server_that_is_being_started(
    open_client: OpenClient, start_server: StartServer, queue: str
) -> None:
    server = start_server()
    server.stop()
    client = open_client(server)
    waiting = asyncio.ensure_future(client.wait_for_ready(20))
    await asyncio.to_thread(server.restart)
    await waiting
    assert (await client.queue_stats(queue)).total == 0


async def test_something_that_never_answers_is_told(open_client: OpenClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        client = open_client(address=f"127.0.0.1:{mute.getsockname()[1]}", api_key=KEY)
        with pytest.raises(errors.UnavailableError) as caught:
            await client.wait_for_ready(0.3)
    assert caught.value.reason in ("no_answer", "connection_lost")


async def test_a_closed_client_says_so(
    open_client: OpenClient, server: ServerProcess, queue: str
) -> None:
    client = open_client(server)
    await client.queue_stats(queue)
    await client.close()
    await client.close()
    with pytest.raises(errors.ConflictError) as caught:
        await client.queue_stats(queue)
    assert "connect()" in caught.value.message


async def test_closing_a_client_ends_a_call_that_waits(
    open_client: OpenClient, start_server: StartServer, queue: str
) -> None:
    server = start_server()
    client = open_client(server)
    await client.wait_for_ready()
    server.pause()
    waiting = asyncio.ensure_future(client.queue_stats(queue))
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    await client.close()
    with pytest.raises(errors.SpooledError) as caught:
        await waiting
    assert not isinstance(caught.value, errors.DeadlineExceededError)
    server.resume()


async def test_a_cancelled_task_stays_cancelled(start_server: StartServer, queue: str) -> None:
    server = start_server()
    async with AsyncSpooledClient(server.address, api_key=server.api_key) as client:
        await client.wait_for_ready()
        server.pause()
        for call in (client.queue_stats(queue), anext(aiter(client.stream_jobs(queue, "w")))):
            waiting = asyncio.ensure_future(call)
            done, _ = await asyncio.wait([waiting], timeout=0.2)
            assert not done
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        server.resume()


def test_an_asyncio_client_outlives_its_event_loop(server: ServerProcess, queue: str) -> None:
    """As in scripts that call asyncio.run more than once."""
    client = AsyncSpooledClient(server.address, api_key=server.api_key)
    assert asyncio.run(client.queue_stats(queue)).total == 0
    assert asyncio.run(client.queue_stats(queue)).total == 0
    asyncio.run(client.close())


async def test_an_asyncio_client_is_refused_on_a_second_loop(
    server: ServerProcess, async_client: AsyncSpooledClient, queue: str
) -> None:
    await async_client.queue_stats(queue)

    def elsewhere() -> None:
        asyncio.run(async_client.queue_stats(queue))

    with pytest.raises(errors.ConflictError) as caught:
        await asyncio.to_thread(elsewhere)
    assert "one client per loop" in caught.value.message


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    subprocess.run(
        [
            *command.split(),
            *("-keyout", key, "-out", certificate),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("certificates")
    made: dict[str, Path] = {}
    for name in ("localhost", "client", "other"):
        made[name], made[f"{name}-key"] = _certificate(folder, name)
    return made


@pytest.fixture(scope="module")
def tls_server(
    certificates: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    material = (str(certificates["localhost"]), str(certificates["localhost-key"]))
    store = tmp_path_factory.mktemp("tls") / "jobs.db"
    with ServerProcess(store, "--tls-cert", material[0], "--tls-key", material[1]) as running:
        running.host = "localhost"
        yield running


@pytest.fixture(scope="module")
def mtls_server(
    certificates: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    material = ["--tls-cert", certificates["localhost"], "--tls-key", certificates["localhost-key"]]
    material += ["--tls-client-ca", certificates["client"]]
    store = tmp_path_factory.mktemp("mtls") / "jobs.db"
    with ServerProcess(store, *map(str, material)) as running:
        running.host = "localhost"
        yield running


async def test_tls_with_a_ca_of_ones_own(
    open_client: OpenClient, tls_server: ServerProcess, certificates: Any, queue: str
) -> None:
    client = open_client(tls_server, tls=TLS(ca=certificates["localhost"]))
    assert (await client.enqueue(queue, {"n": 1})).created
    client = open_client(tls_server, tls=TLS(ca=certificates["localhost"].read_bytes()))
    assert (await client.queue_stats(queue)).pending == 1


async def test_the_environment_says_how_tls_is_done(
    open_client: OpenClient,
    mtls_server: ServerProcess,
    certificates: Any,
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPOOLED_TLS_CA", str(certificates["localhost"]))
    monkeypatch.setenv("SPOOLED_TLS_CLIENT_CERT", str(certificates["client"]))
    monkeypatch.setenv("SPOOLED_TLS_CLIENT_KEY", str(certificates["client-key"]))
    monkeypatch.setenv("SPOOLED_TLS_SERVER_NAME", "localhost")
    by_number = f"127.0.0.1:{mtls_server.port}"
    client = open_client(address=by_number, api_key=mtls_server.api_key)
    assert (await client.queue_stats(queue)).total == 0
    monkeypatch.setenv("SPOOLED_TLS", "off")
    with pytest.raises(errors.InvalidArgumentError, match="unset one of them"):
        connect(by_number, api_key=KEY)


def test_tls_is_turned_off_by_the_environment_and_by_nothing_else_than_on_and_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPOOLED_TLS", "off")
    with connect("queue.internal:50051", api_key=KEY) as client:
        assert client.settings.tls_material is None
    with connect("queue.internal:50051", api_key=KEY, tls=True) as client:
        assert client.settings.tls_material == TLS()
    monkeypatch.setenv("SPOOLED_TLS", "maybe")
    with pytest.raises(errors.InvalidArgumentError, match="SPOOLED_TLS must be on or off"):
        connect("queue.internal:50051", api_key=KEY)


async def test_calls_go_to_every_server_of_an_address(
    open_client: OpenClient, server: ServerProcess, tmp_path: Path, queue: str
) -> None:
    with ServerProcess(tmp_path / "other.db", api_key=server.api_key) as other:
        client = open_client(address=f"{server.address},{other.address}", api_key=server.api_key)
        singles = [open_client(one) for one in (server, other)]

        async def both_have_jobs() -> bool:
            await client.enqueue(queue, {})
            return all([(await single.queue_stats(queue)).total for single in singles])

        # It is connected to one of them first.
        await aeventually(both_have_jobs)
        other.kill()
        # Who is gone is not asked again.
        for number in range(10):
            await client.enqueue(queue, {"n": number})


async def test_tls_under_another_name(
    open_client: OpenClient, tls_server: ServerProcess, certificates: Any, queue: str
) -> None:
    by_number = f"127.0.0.1:{tls_server.port}"
    trust = TLS(ca=certificates["localhost"])
    client = open_client(address=by_number, api_key=tls_server.api_key, tls=trust)
    with pytest.raises(errors.UnavailableError) as caught:
        await client.queue_stats(queue)
    assert caught.value.details["attempts"] == 1, "a wrong name was tried again and again"
    assert "server_name" in caught.value.message
    named = TLS(ca=certificates["localhost"], server_name="localhost")
    client = open_client(address=by_number, api_key=tls_server.api_key, tls=named)
    assert (await client.queue_stats(queue)).total == 0


async def test_a_certificate_that_nobody_vouches_for_is_told(
    open_client: OpenClient, tls_server: ServerProcess, certificates: Any, queue: str
) -> None:
    for tls in (True, TLS(ca=certificates["other"])):
        client = open_client(tls_server, tls=tls)
        with pytest.raises(errors.UnavailableError) as caught:
            await client.queue_stats(queue)
        assert caught.value.reason == "tls_untrusted"
        assert "TLS(ca=...)" in caught.value.message
        assert caught.value.details["attempts"] == 1


async def test_a_plain_client_at_a_tls_server_is_told(
    open_client: OpenClient, tls_server: ServerProcess, queue: str
) -> None:
    # A number: of a name's addresses, gRPC tells about the last one alone.
    by_number = f"127.0.0.1:{tls_server.port}"
    client = open_client(address=by_number, api_key=tls_server.api_key, retry=ONCE)
    with pytest.raises(errors.UnavailableError) as caught:
        await client.queue_stats(queue)
    assert "tls=True" in caught.value.message
    with pytest.raises(errors.UnavailableError) as caught:
        await client.wait_for_ready(0.5)
    assert "tls=True" in caught.value.message


async def test_a_tls_client_at_a_plain_server_is_told(
    open_client: OpenClient, server: ServerProcess, queue: str
) -> None:
    client = open_client(server, tls=True)
    with pytest.raises(errors.UnavailableError) as caught:
        await client.queue_stats(queue)
    assert "tls=False" in caught.value.message
    assert caught.value.details["attempts"] == 1


async def test_mutual_tls(
    open_client: OpenClient, mtls_server: ServerProcess, certificates: Any, queue: str
) -> None:
    ca = certificates["localhost"]
    both = TLS(
        ca=ca,
        client_certificate=certificates["client"],
        client_key=certificates["client-key"],
    )
    client = open_client(mtls_server, tls=both)
    assert (await client.enqueue(queue, {})).created
    client = open_client(mtls_server, tls=TLS(ca=ca), retry=ONCE)
    with pytest.raises(errors.UnavailableError) as caught:
        await client.queue_stats(queue)
    assert "client certificate" in caught.value.message.replace("client_certificate", "")
