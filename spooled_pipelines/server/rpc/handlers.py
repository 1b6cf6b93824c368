"""The gRPC handlers of every RPC, made by reflection: they parse, and answer errors by status."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from spooled_pipelines.server.auth import Caller, Metadata, check_tables
from spooled_pipelines.server.core.errors import NoMessageError, RefusedError, invalid
from spooled_pipelines.server.core.limits.in_flight import Received
from spooled_pipelines.server.core.protobuf import parses_itself
from spooled_pipelines.server.rpc.connections import ConnectionGuard
from spooled_pipelines.server.rpc.interceptor import Answer, Context, Interceptor
from spooled_pipelines.server.telemetry import rpc_call
from spooled_pipelines.wire.methods import Method, methods_of

_log = logging.getLogger(__name__)
# A call that its client gives up sooner was hardly meant.
_AT_ONCE_SECONDS = 1.0


def build_handlers(
    implementations: Mapping[str, object], interceptor: Interceptor
) -> list[grpc.GenericRpcHandler]:
    """Return the handlers of each service.

    AttributeError where an RPC has no method, RuntimeError where authorization has no entry for it.
    """
    check_tables(m for service in implementations for m in methods_of(service).values())
    return [
        grpc.method_handlers_generic_handler(
            service,
            {
                name: _handler(method, function_of(implementation, method), interceptor)
                for name, method in methods_of(service).items()
            },
        )
        for service, implementation in implementations.items()
    ]


class UnknownCalls(grpc.GenericRpcHandler):
    """Refuses the calls that no service has; it comes behind all others."""

    def __init__(self, interceptor: Interceptor) -> None:
        self._interceptor = interceptor

    def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        return grpc.stream_stream_rpc_method_handler(self._refuse)

    async def _refuse(self, _: object, context: Context) -> None:
        guard = self._interceptor.guard
        metadata, peer = _asked_by(context, guard)
        with contextlib.suppress(RefusedError):
            guard.gave_up(peer, self._interceptor.recognize(metadata, peer).organization)
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


def function_of(implementation: object, method: Method) -> Callable[..., Any]:
    """Return the method that answers an RPC."""
    name = re.sub("(?<!^)(?=[A-Z])", "_", method.name).lower()
    function: Callable[..., Any] = getattr(implementation, name)
    return function


def _handler(method: Method, function: Callable[..., Any], interceptor: Interceptor) -> Any:
    # To gRPC every call is one whose requests are a stream: it hands those over before it reads
    # anything, and on the wire they are the same.
    if not method.server_streaming:

        async def unary(_: object, context: Context) -> bytes:
            metadata, peer = _asked_by(context, interceptor.guard)
            async with _answering(interceptor, method, context, metadata, peer) as call:
                caller = interceptor.authenticate(method, metadata, peer)
                call.organization = caller.organization
                received = await interceptor.intake.only_message(caller, context, method)
                try:
                    request = _parse(method, received.data)
                    answering = partial(interceptor.answer, caller, method, function, request)
                    return await interceptor.until_read(caller, context, method, answering)
                finally:
                    received.release()

        return grpc.stream_unary_rpc_method_handler(unary)

    async def stream(_: object, context: Context) -> None:
        metadata, peer = _asked_by(context, interceptor.guard)
        async with _answering(interceptor, method, context, metadata, peer) as call:
            caller = interceptor.authenticate(method, metadata, peer)
            call.organization = caller.organization
            if method.client_streaming:
                messages = interceptor.messages(caller, context, method)
                # The service opens the envelopes, and has them checked.
                requests = messages if parses_itself(function) else _requests(method, messages)
                await interceptor.respond(caller, context, method, function(caller, requests))
                return
            received = await interceptor.intake.only_message(caller, context, method)
            request = _parse(method, received.data)
            received.release()
            await interceptor.respond(
                caller, context, method, _checked(interceptor, caller, request, function)
            )

    return grpc.stream_stream_rpc_method_handler(stream)


async def _checked(
    interceptor: Interceptor,
    caller: Caller,
    request: Message,
    function: Callable[..., AsyncGenerator[Answer, None]],
) -> AsyncGenerator[Answer, None]:
    await interceptor.authorize_queues(caller, request)
    async with contextlib.aclosing(function(caller, request)) as answers:
        async for answer in answers:
            yield answer


@contextlib.contextmanager
def observed(
    interceptor: Interceptor, method: Method, metadata: Metadata = ()
) -> Iterator[rpc_call.RpcCall]:
    """Tell the observers what became of a call; what fails inside is logged and refused."""
    call = rpc_call.start(method, metadata)
    try:
        with interceptor.track():
            yield call
    except RefusedError as refusal:
        call.code = refusal.code
        raise
    except (asyncio.CancelledError, grpc.aio.AbortError):
        call.code = "CANCELLED"
        raise
    # The boundary: what went wrong inside is logged here, and told without its details.
    except Exception:  # noqa: BLE001
        call.code = "INTERNAL"
        _log.exception("%s failed", method.path)
        message = f"the server failed; its log says more about request {call.request_id}"
        raise RefusedError("INTERNAL", message) from None
    finally:
        call.end()
        interceptor.tell_observers(call)


@contextlib.asynccontextmanager
async def _answering(
    interceptor: Interceptor, method: Method, context: Context, metadata: Metadata, peer: str
) -> AsyncIterator[rpc_call.RpcCall]:
    """Turn what a call raises into its status."""
    try:
        with observed(interceptor, method, metadata) as call:
            yield call
    except RefusedError as refusal:
        if isinstance(refusal, NoMessageError):
            interceptor.guard.gave_up(peer, call.organization or "")
        await _refuse(context, call, refusal)
    except asyncio.CancelledError:
        if call.organization is not None and call.seconds < _AT_ONCE_SECONDS:
            interceptor.guard.gave_up(peer, call.organization)
        raise


def _asked_by(context: Context, guard: ConnectionGuard) -> tuple[Metadata, str]:
    """Return a call's metadata and its peer; nothing is done for one whose connection was cut."""
    peer = context.peer()
    if guard.has_cut(peer):
        raise asyncio.CancelledError
    # Each time that gRPC is asked it makes them again.
    return context.invocation_metadata() or (), peer


async def _refuse(context: Context, call: rpc_call.RpcCall, refusal: RefusedError) -> None:
    # By this id the client's error is found in this server's log.
    trailing: tuple[tuple[str, str], ...] = ((rpc_call.REQUEST_ID_HEADER, call.request_id),)
    if refusal.retry_after is not None:
        trailing += (("retry-after", str(refusal.retry_after)),)
    if refusal.reason is not None:
        trailing += (("x-error-reason", refusal.reason),)
    try:
        await context.abort(grpc.StatusCode[refusal.code], refusal.message, trailing)
    except grpc.aio.InternalError:
        # The client went away before it was told.
        raise asyncio.CancelledError from None


async def _requests(method: Method, messages: AsyncIterator[Received]) -> AsyncIterator[Message]:
    async for received in messages:
        yield _parse(method, received.data)
        received.release()


def _parse(method: Method, data: bytes) -> Message:
    try:
        request: Message = method.request_class.FromString(data)
        return request
    except DecodeError:
        name = method.request_class.DESCRIPTOR.name
        raise invalid(f"the message is not a valid {name}") from None
