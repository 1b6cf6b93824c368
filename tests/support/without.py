"""A server in front of a real one that serves all but some of its methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import grpc

if TYPE_CHECKING:
    from typing_extensions import Self


class Without(grpc.GenericRpcHandler):
    """Hands calls on byte by byte, but those of methods named in `missing`: UNIMPLEMENTED."""

    def __init__(self, target: str, *missing: str) -> None:
        self.calls: Counter[str] = Counter()
        self._missing = missing
        self._channel = grpc.insecure_channel(target)
        # A stream has a thread for as long as it is open, and a worker opens some dozens.
        self._server = grpc.server(ThreadPoolExecutor(128))
        self._server.add_generic_rpc_handlers((self,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        path = details.method
        method = path.rpartition("/")[2]
        self.calls[method] += 1
        if method in self._missing:
            return None

        # On the wire a call of one message is a stream of one.
        def hand_on(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            metadata = [
                (name, text)
                for name, text in context.invocation_metadata()
                if not name.startswith(("grpc-", "user-agent", ":"))
            ]
            call: Any = cast("Any", self._channel.stream_stream(path))(
                messages, metadata=tuple(metadata)
            )
            context.add_callback(call.cancel)
            try:
                yield from call
            except grpc.RpcError:
                if context.is_active():
                    context.abort(call.code(), call.details())

        return grpc.stream_stream_rpc_method_handler(hand_on)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()
        self._channel.close()
