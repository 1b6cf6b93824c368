"""One suite for both clients: the blocking one behind the asyncio one's face.

Tests are written once, with `await`. A blocking call runs in a thread, as users would run it,
so that a test which waits on two things at once works for both.
"""

from __future__ import annotations

import asyncio
import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

_END = object()


class Awaitable:
    """A blocking object with its asyncio counterpart's face: awaited is what is awaited there."""

    def __init__(self, blocking: Any, counterpart: type) -> None:
        self._blocking = blocking
        self._counterpart = counterpart

    def __repr__(self) -> str:
        return repr(self._blocking)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._blocking, {"aclose": "close"}.get(name, name))
        if not inspect.ismethod(value):
            return with_asyncio_face(value)
        if not inspect.iscoroutinefunction(getattr(self._counterpart, name)):
            return lambda *args, **kwargs: with_asyncio_face(value(*args, **kwargs))

        async def call(*args: Any, **kwargs: Any) -> Any:
            return with_asyncio_face(await asyncio.to_thread(value, *args, **kwargs))

        return call

    def __aiter__(self) -> Self:
        self._iterator = iter(self._blocking)
        return self

    async def __anext__(self) -> Any:
        value = await asyncio.to_thread(next, self._iterator, _END)
        if value is _END:
            raise StopAsyncIteration
        return value

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._blocking.__enter__)
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.to_thread(self._blocking.__exit__, *error)


def with_asyncio_face(value: Any) -> Any:
    """The object behind its counterpart's face; one that has none comes back as it is."""
    kind = type(value)
    if ".sync." not in kind.__module__:
        return value
    counterparts = import_module(kind.__module__.replace(".sync.", ".aio."))
    counterpart = getattr(counterparts, f"Async{kind.__name__}", None)
    return value if counterpart is None else Awaitable(value, counterpart)
