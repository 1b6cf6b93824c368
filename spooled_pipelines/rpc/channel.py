"""What a channel needs on both sides: options, credentials, metadata, serialization."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import grpc

from spooled_pipelines.rpc.settings import TLS, ConnectionSettings
from spooled_pipelines.wire import limits

if TYPE_CHECKING:
    from google.protobuf.message import Message

API_KEY_HEADER = "x-api-key"
ORGANIZATION_HEADER = "x-spooled-organization"

# gzip makes rows a fifth of their size, at some 60 MB a second and core: it pays if the way to the
# server is slower than that. A network that responds sooner than this is most often faster.
_FAR_SECONDS = 0.002
# gRPC's default is to stay with the first that answers, which would leave the others idle. It also
# watches each server's health, and passes over one that says NOT_SERVING, for example since its
# database is away; one without that service counts as healthy.
_TAKE_TURNS = '{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":""}}'
_log = logging.getLogger("spooled_pipelines.rpc")
# The names of servers.
_warned_of: set[str] = set()

# A message, or the wire bytes of one.
Request: TypeAlias = "Message | bytes"


class CallResult(NamedTuple):
    """The end of one of many calls that are in flight together.

    Attributes:
        number: the number that the call was started with.
        at: when it ended, a reading of `monotonic`.
        response, error: one of them is None.
    """

    number: int
    at: float
    response: Any
    error: grpc.RpcError | None


def serialized(request: Request) -> bytes:
    """Return the wire bytes of a request, which may be a message or bytes already."""
    return request if isinstance(request, bytes) else request.SerializeToString()


def channel_options(settings: ConnectionSettings) -> list[tuple[str, int | str]]:
    """Return the channel arguments: keepalive, message sizes, and how soon to connect again."""
    options: list[tuple[str, int | str]] = [
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # gRPC 1.85 waits a minute for the answer to a ping, whatever keepalive_timeout_ms says,
        # unless this says the same.
        ("grpc.http2.ping_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_time_between_pings_ms", 10_000),
        # An idle stream carries no data for hours, and its pings must go on all the same.
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_send_message_length", limits.MESSAGE_MAX_BYTES),
        # A response that is refused for its size leaves its jobs idle until their leases end, and a
        # hundred jobs of a mebibyte are a valid response; beyond that it is not a server of ours.
        ("grpc.max_receive_message_length", limits.RESPONSE_MAX_BYTES),
        # gRPC's own pause before it connects again starts at a second and grows to two minutes:
        # our retries would all fail within it, though the server has long been back. Where
        # another program takes over, it is back within tenths of a second.
        ("grpc.initial_reconnect_backoff_ms", 100 if settings.file is None else 20),
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 2_000 if settings.file is None else 100),
    ]
    if settings.endpoint.is_many:
        options.append(("grpc.service_config", _TAKE_TURNS))
    if settings.endpoint.is_local:
        # Where http_proxy is set, gRPC would ask that proxy for this very machine.
        options.append(("grpc.enable_http_proxy", 0))
    tls = settings.tls_material
    if tls is not None and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
        options.append(("grpc.default_authority", tls.server_name))
    return options


def channel_credentials(settings: ConnectionSettings) -> grpc.ChannelCredentials | None:
    """Return TLS credentials, or None for a connection without TLS.

    Raises:
        InvalidArgumentError: a file is not there, or does not hold PEM.
    """
    tls = settings.tls_material
    if tls is None:
        return None
    return credentials_of(tls)


def warn_of_plaintext(settings: ConnectionSettings) -> None:
    """Log once for each server that keys and payloads go unencrypted to another machine."""
    if settings.tls_material is not None or settings.endpoint.is_local:
        return
    if settings.name not in _warned_of:
        _warned_of.add(settings.name)
        _log.warning(
            "the connection to %s is without TLS: the API key and all payloads can be read on the "
            "way; leave out tls=False (SPOOLED_TLS=off) once the server has a certificate",
            settings.name,
        )


def compression_pays(*, is_local: bool, round_trip: float | None) -> bool:
    """Return whether what is sent is worth compressing.

    `round_trip` is the quickest response seen, in seconds; None before the first.
    """
    return not is_local and round_trip is not None and round_trip >= _FAR_SECONDS


def credentials_of(tls: TLS) -> grpc.ChannelCredentials:
    """Return the credentials for TLS material."""
    return grpc.ssl_channel_credentials(
        root_certificates=tls.read_pem("ca"),
        private_key=tls.read_pem("client_key"),
        certificate_chain=tls.read_pem("client_certificate"),
    )


def call_metadata(settings: ConnectionSettings) -> tuple[tuple[str, str], ...]:
    """Return the metadata of each call."""
    metadata = ((API_KEY_HEADER, settings.api_key),)
    if settings.organization is None:
        return metadata
    return (*metadata, (ORGANIZATION_HEADER, settings.organization))
