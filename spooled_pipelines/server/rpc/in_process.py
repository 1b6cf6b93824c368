"""Calls of the dashboard, authorized, checked and observed as those that come over gRPC."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from spooled_pipelines.server.auth import ROLES, Caller
from spooled_pipelines.server.rpc.handlers import function_of, observed
from spooled_pipelines.server.rpc.interceptor import Interceptor
from spooled_pipelines.wire.methods import Method, methods_of


class InProcessClient:
    """A client of the services in this process, for unary calls."""

    def __init__(self, implementations: Mapping[str, object], interceptor: Interceptor) -> None:
        self._interceptor = interceptor
        # By the name of their request: no two unary calls share one.
        self._methods: dict[str, tuple[Method, Callable[..., Awaitable[Any]]]] = {}
        for service, implementation in implementations.items():
            for method in methods_of(service).values():
                function = function_of(implementation, method)
                if inspect.iscoroutinefunction(function):
                    name = method.request_class.DESCRIPTOR.full_name
                    self._methods[name] = method, function

    def may(self, caller: Caller, request_class: Any) -> bool:
        """Return whether the caller's role may make this call at all."""
        method, _ = self._methods[request_class.DESCRIPTOR.full_name]
        return caller.role in ROLES[method.path]

    def count(self, caller: Caller) -> None:
        """Count one request; RefusedError RESOURCE_EXHAUSTED beyond the rate limit."""
        self._interceptor.count(caller)

    async def call(self, caller: Caller, request: Any) -> Any:
        """Return the answer; RefusedError where a client would get a status."""
        method, function = self._methods[request.DESCRIPTOR.full_name]
        with observed(self._interceptor, method) as call:
            call.organization = caller.organization
            self._interceptor.authorize(caller, method)
            answer = await self._interceptor.answer(caller, method, function, request)
        return method.response_class.FromString(answer) if type(answer) is bytes else answer
