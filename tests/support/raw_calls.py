"""Calls as they go over the wire: one attempt each, no key but the one given, nothing clever."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import grpc

from spooled_pipelines.wire.methods import Method, every_method

if TYPE_CHECKING:
    from typing_extensions import Self

METHODS = every_method()
_TIMEOUT_SECONDS = 30.0


class Caller:
    """A connection of its own to one server; a context manager."""

    def __init__(self, address: str, key: str) -> None:
        # Back soon after a crash; a connection that no other caller has waited for.
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 5_000),
            ("grpc.max_reconnect_backoff_ms", 200),
        ]
        self._channel = grpc.insecure_channel(address, options)
        self._metadata = (("x-api-key", key),)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def call(self, request: Any) -> Any:
        """A unary call; its name follows from the request's."""
        method = named(type(request).__name__.removesuffix("Request"))
        invoke = self._made("unary_unary", method)
        return invoke(request, metadata=self._metadata, timeout=_TIMEOUT_SECONDS)

    def stream(self, request: Any) -> Any:
        """The answers to one request."""
        method = named(type(request).__name__.removesuffix("Request"))
        return self._made("unary_stream", method)(request, metadata=self._metadata)

    def converse(self, name: str, requests: Iterable[Any]) -> Any:
        """The answers to several requests."""
        return self._made("stream_stream", named(name))(iter(requests), metadata=self._metadata)

    def _made(self, kind: str, method: Method) -> Any:
        return getattr(self._channel, kind)(
            method.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.response_class.FromString,
        )


def named(name: str) -> Method:
    """The first RPC of this name."""
    return next(method for method in METHODS if method.name == name)
