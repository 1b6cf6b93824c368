"""The limits that gRPC puts on each connection."""

from __future__ import annotations

from spooled_pipelines.server.config.settings import ConnectionLimits
from spooled_pipelines.server.rpc.connections import connections_in_all
from spooled_pipelines.wire import limits

# How long a client has to answer a ping.
_PONG_MS = 20_000
# How long calls and streams go on when their connection is old, before they are cut.
_OLD_MS = 60_000
# Pings that come too soon before the connection is closed.
_PING_STRIKES = 2
_HANDSHAKE_MS = 10_000
_AHEAD_BYTES = 2 << 20
_FIXED = (
    ("grpc.max_send_message_length", limits.MESSAGE_MAX_BYTES),
    # The server unpacks messages by itself, once it knows whose they are.
    ("grpc.per_message_decompression", 0),
    # A connection that has not become one of HTTP/2 by then is closed.
    ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
    ("grpc.http2.settings_timeout", _HANDSHAKE_MS),
    # How much of a message comes before anybody reads it, and of a stream while an answer is on its
    # way: 20 MB/s on a line of 100 ms. With the probe this grows with the speed of a connection, up
    # to all that a client sends.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", _AHEAD_BYTES),
    # Two servers must not share a port unnoticed.
    ("grpc.so_reuseport", 0),
    # Beyond a thousand calls that have not begun, gRPC would cancel some at random.
    ("grpc.server.max_pending_requests", 50_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
)


def server_options(bounds: ConnectionLimits) -> tuple[tuple[str, int], ...]:
    """Return the channel arguments of the server."""
    keepalive = int(bounds.keepalive_seconds * 1000)
    age: tuple[tuple[str, int], ...] = ()
    if bounds.max_age_seconds is not None:
        age = (
            ("grpc.max_connection_age_ms", int(bounds.max_age_seconds * 1000)),
            ("grpc.max_connection_age_grace_ms", _OLD_MS),
        )
    return (
        *_FIXED,
        *age,
        ("grpc.max_receive_message_length", bounds.max_message_bytes),
        ("grpc.max_concurrent_streams", bounds.max_streams),
        ("grpc.max_allowed_incoming_connections", connections_in_all(bounds.max_connections)),
        # With a soft limit below the hard one gRPC would refuse at random in between.
        ("grpc.max_metadata_size", bounds.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", bounds.max_metadata_bytes),
        ("grpc.max_connection_idle_ms", int(bounds.max_idle_seconds * 1000)),
        ("grpc.keepalive_time_ms", keepalive),
        ("grpc.keepalive_timeout_ms", min(keepalive, _PONG_MS)),
        ("grpc.http2.ping_timeout_ms", min(keepalive, _PONG_MS)),
        # Clients may ping while no call runs, and ours do: the default would cut them off.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", int(bounds.min_ping_seconds * 1000)),
        ("grpc.http2.max_ping_strikes", _PING_STRIKES),
    )
