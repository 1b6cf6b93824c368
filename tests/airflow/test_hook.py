"""A connection of type `spooled` becomes a client, and says what is wrong with it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection

from spooled_pipelines import SpooledClient
from spooled_pipelines.airflow import SpooledHook
from spooled_pipelines.airflow.hooks.connection import settings_of
from spooled_pipelines.errors import AuthenticationError, InvalidArgumentError
from spooled_pipelines.rpc.settings import TLS
from spooled_pipelines.wire import keys_v1
from spooled_pipelines.wire.methods import KEY_SERVICE, methods_of
from tests.support.airflow_versions import redact
from tests.support.server_process import ServerProcess

KEY = "sp_test_thisisthekeyofthetests"


def connection(**fields: Any) -> Connection:
    given = {"conn_id": "c", "conn_type": "spooled", "host": "localhost", "password": KEY}
    return Connection(**{**given, **fields})


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("localhost", 50051, "localhost:50051"),
        ("grpc.spooled.cloud", None, "grpc.spooled.cloud:443"),
        ("::1", 7000, "[::1]:7000"),
        ("[::1]", 7000, "[::1]:7000"),
        ("unix:/run/spooled.sock", None, "unix:/run/spooled.sock"),
    ],
)
def test_host_and_port_are_the_address(host: str, port: int | None, address: str) -> None:
    assert settings_of(connection(host=host, port=port)).endpoint.text == address


@pytest.mark.parametrize("word", ["auto", "AUTO", "", None])
def test_tls_is_on_by_itself_except_to_this_machine(word: str | None) -> None:
    extra = None if word is None else f'{{"tls": "{word}"}}'
    assert settings_of(connection(extra=extra)).tls_material is None
    assert settings_of(connection(host="example.org", extra=extra)).tls_material == TLS()


@pytest.mark.parametrize(
    ("extra", "on"),
    [
        ('{"tls": "on"}', True),
        ('{"tls": true}', True),
        ('{"tls": "off"}', False),
        ('{"tls": false}', False),
    ],
)
def test_tls_is_on_or_off_where_the_connection_says_so(extra: str, on: bool) -> None:
    assert (settings_of(connection(extra=extra)).tls_material is not None) is on


def test_tls_files_and_the_servers_name_come_from_the_extra() -> None:
    extra = (
        '{"ca": "/ca.pem", "client_certificate": "/c.pem", "private_key": "/k.pem",'
        ' "server_name": "spooled.internal"}'
    )
    material = settings_of(connection(extra=extra)).tls_material
    assert material == TLS("/ca.pem", "/c.pem", "/k.pem", "spooled.internal")


def test_the_rest_of_the_extra_is_what_a_client_is_told() -> None:
    extra = (
        '{"organization": "acme", "batch_extension": "off", "timeout_seconds": "7.5",'
        ' "page": "https://spooled.example.org"}'
    )
    settings = settings_of(connection(extra=extra))
    assert settings.organization == "acme"
    assert settings.batch_extension == "off"
    assert settings.timeout_seconds == 7.5
    bare = settings_of(connection())
    assert (bare.organization, bare.batch_extension, bare.timeout_seconds) == (None, "auto", 30)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"conn_type": "http"}, InvalidArgumentError, "'c' is of type 'http', not 'spooled'"),
        ({"host": None}, InvalidArgumentError, "'c' has no host"),
        ({"password": None}, AuthenticationError, "'c' has no password"),
        ({"host": "https://x"}, InvalidArgumentError, "not a server address"),
        (
            {"extra": '{"tls": "perhaps"}'},
            InvalidArgumentError,
            "tls in its extra must be auto, on or off, got 'perhaps'",
        ),
        (
            {"extra": '{"tls": "off", "ca": "/ca.pem"}'},
            InvalidArgumentError,
            "tls=off and ca",
        ),
        ({"extra": '{"private_key": "/k.pem"}'}, InvalidArgumentError, "client_certificate"),
        (
            {"extra": '{"tsl": "on", "page": "http://x"}'},
            InvalidArgumentError,
            "there is no tsl among the settings in an extra, which are tls, ca, ",
        ),
        (
            {"extra": '{"batch_extension": "maybe"}'},
            InvalidArgumentError,
            "batch_extension in its extra must be auto, on or off, got 'maybe'",
        ),
        ({"extra": '{"timeout_seconds": 0}'}, InvalidArgumentError, "at most 3600, got 0"),
        (
            {"extra": '{"timeout_seconds": "soon"}'},
            InvalidArgumentError,
            "at most 3600, got 'soon'",
        ),
    ],
)
def test_a_connection_that_makes_no_sense_is_refused_by_name_and_field(
    fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        settings_of(connection(**fields))
    assert KEY not in str(raised.value)


def test_the_uri_form_of_a_connection_works_as_the_json_form_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = (
        f"spooled://:{KEY}@example.org:8443/?tls=on&server_name=spooled.internal"
        "&organization=acme&batch_extension=on&timeout_seconds=12"
    )
    monkeypatch.setenv("AIRFLOW_CONN_SPOOLED_DEFAULT", uri)
    with SpooledHook().get_conn() as client:
        assert client.settings.address == "example.org:8443"
        assert client.settings.api_key == KEY
        assert client.settings.tls_material == TLS(server_name="spooled.internal")
        assert client.settings.organization == "acme"
        assert client.settings.batch_extension == "on"
        assert client.settings.timeout_seconds == 12


def test_the_client_works_and_shows_no_key(connected: ServerProcess, queue: str) -> None:
    with SpooledHook().get_conn() as client:
        assert client.enqueue(queue, {"n": 1}).created
        assert connected.api_key not in repr(client) + repr(client.settings)


def test_a_connection_that_is_not_there_is_named_with_what_to_do() -> None:
    for call in (SpooledHook("nowhere").get_conn, lambda: SpooledHook("nowhere").page_url("x")):
        with pytest.raises(InvalidArgumentError, match="no Airflow connection 'nowhere': add it"):
            call()
    good, message = SpooledHook("nowhere").test_connection()
    assert (good, "'nowhere'" in message) == (False, True)


async def test_the_asyncio_client_works_too(connected: ServerProcess, queue: str) -> None:
    async with await SpooledHook().get_async_conn() as client:
        assert (await client.queue_stats(queue)).total == 0
    with pytest.raises(InvalidArgumentError, match="no Airflow connection 'nowhere'"):
        await SpooledHook("nowhere").get_async_conn()


def test_the_key_is_masked_in_logs_however_it_was_written(
    connect_airflow: Callable[..., None], server: ServerProcess
) -> None:
    secret = "sp_test_amostsecretkeyoftheirs"
    connect_airflow(server, password=f"{secret}\n")
    SpooledHook().get_conn().close()
    assert secret not in str(redact(f"the key {secret} is wrong"))


@pytest.mark.parametrize("breaks", [" ", "", "\\n"])
def test_a_pem_that_lost_its_line_breaks_in_the_form_works(
    breaks: str, certificate: Path, tls_server: ServerProcess, connect_airflow: Callable[..., None]
) -> None:
    ca = certificate.read_text().replace("\n", breaks)
    key = certificate.with_suffix(".key").read_text().replace("\n", breaks)
    extra = {"ca": ca, "client_certificate": ca, "private_key": key}
    connect_airflow(tls_server, host="localhost", extra=extra)
    assert SpooledHook().test_connection()[0]


def test_airflow_masks_the_private_key_in_a_connections_extra() -> None:
    shown = str(redact({"private_key": "MIIEvw", "ca": "MIIBva"}))
    assert "MIIEvw" not in shown
    assert "MIIBva" in shown


class TestTestConnection:
    """What the Test button says; five seconds at most, and never the key."""

    def test_a_server_that_takes_the_key(self, connected: ServerProcess) -> None:
        good, message = SpooledHook().test_connection()
        assert good, message
        assert "accepts the API key" in message

    def test_a_wrong_key(self, server: ServerProcess, connect_airflow: Callable[..., None]) -> None:
        connect_airflow(server, password=KEY)
        good, message = SpooledHook().test_connection()
        assert not good
        assert "does not accept this API key" in message
        assert KEY not in message

    @pytest.fixture
    def key_with(self, client: SpooledClient) -> Callable[..., str]:
        """`key_with(role, queues)`: the secret of a new API key."""

        def key_with(role: str, queues: Sequence[str] = ()) -> str:
            request = keys_v1.CreateKeyRequest(name="form", role=role, queues=queues)
            answer = client.connection.unary(
                methods_of(KEY_SERVICE)["CreateKey"], request, repeatable=False
            )
            secret: str = answer.secret
            return secret

        return key_with

    @pytest.mark.parametrize("role", ["read", "work"])
    def test_a_key_without_permission_to_enqueue(
        self,
        role: str,
        server: ServerProcess,
        key_with: Callable[..., str],
        connect_airflow: Callable[..., None],
    ) -> None:
        connect_airflow(server, password=key_with(role))
        good, message = SpooledHook().test_connection()
        assert not good
        assert "has no permission to enqueue" in message

    def test_a_key_for_some_queues(
        self,
        server: ServerProcess,
        key_with: Callable[..., str],
        connect_airflow: Callable[..., None],
    ) -> None:
        connect_airflow(server, password=key_with("produce", ["orders"]))
        good, message = SpooledHook().test_connection()
        assert good, message
        assert "limited to some queues" in message

    def test_a_key_of_another_organization(
        self, server: ServerProcess, connect_airflow: Callable[..., None]
    ) -> None:
        connect_airflow(server, extra={"organization": "acme"})
        good, message = SpooledHook().test_connection()
        assert not good
        assert "only looks at the organization 'acme'" in message
        connect_airflow(server, extra={"organization": "default"})
        good, message = SpooledHook().test_connection()
        assert good, message

    def test_it_does_not_tell_which_files_there_are(
        self, tmp_path: Path, connect_airflow: Callable[..., None]
    ) -> None:
        there = tmp_path / "there"
        there.write_text("secret")
        said = set()
        for path in (there, tmp_path / "not-there"):
            extra = {"tls": "on", "ca": str(path)}
            connect_airflow(host="127.0.0.1", port=1, password=KEY, extra=extra)
            said.add(SpooledHook().test_connection())
        ((good, message),) = said
        assert not good
        assert "no PEM to read" in message
        assert "there" not in message

    def test_no_server(self, connect_airflow: Callable[..., None]) -> None:
        with socket.socket() as taken:
            # Bound and not listening: nobody else can get this port meanwhile.
            taken.bind(("127.0.0.1", 0))
            connect_airflow(host="127.0.0.1", port=taken.getsockname()[1], password=KEY)
            good, message = SpooledHook().test_connection()
        assert not good
        assert "no server there" in message

    def test_a_server_that_never_answers(self, connect_airflow: Callable[..., None]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            connect_airflow(host="127.0.0.1", port=silent.getsockname()[1], password=KEY)
            good, message = SpooledHook().test_connection()
        assert not good
        assert "within 5 s" in message

    def test_tls_to_a_server_without_it(
        self, server: ServerProcess, connect_airflow: Callable[..., None]
    ) -> None:
        connect_airflow(server, extra={"tls": "on"})
        good, message = SpooledHook().test_connection()
        assert not good
        assert "Set TLS to off" in message

    def test_no_tls_to_a_server_with_it(
        self, tls_server: ServerProcess, connect_airflow: Callable[..., None]
    ) -> None:
        connect_airflow(tls_server, extra={"tls": "off"})
        good, message = SpooledHook().test_connection()
        assert not good
        assert "Set TLS to on" in message

    def test_a_certificate_that_nobody_here_trusts(
        self, tls_server: ServerProcess, connect_airflow: Callable[..., None]
    ) -> None:
        connect_airflow(tls_server, extra={"tls": "on"})
        good, message = SpooledHook().test_connection()
        assert not good
        assert "not trusted" in message

    def test_a_trusted_certificate(
        self, tls_server: ServerProcess, certificate: Path, connect_airflow: Callable[..., None]
    ) -> None:
        connect_airflow(tls_server, extra={"tls": "on", "ca": str(certificate)})
        good, message = SpooledHook().test_connection()
        assert good, message

    def test_a_connection_that_is_incomplete(self, connect_airflow: Callable[..., None]) -> None:
        connect_airflow(host="localhost")
        good, message = SpooledHook().test_connection()
        assert not good
        assert "has no password" in message


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that signed itself; its key is beside it."""
    import datetime as dt
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    path = folder / "server.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture(scope="module")
def tls_server(
    certificate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    store = tmp_path_factory.mktemp("tls-server") / "jobs.db"
    key = str(certificate.with_suffix(".key"))
    with ServerProcess(store, "--tls-cert", str(certificate), "--tls-key", key) as running:
        yield running
