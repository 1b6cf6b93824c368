"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

_PAUSE_SECONDS = 0.01
# Long for what takes milliseconds: a busy machine is no reason to fail.
DEADLINE_SECONDS = 40.0


def eventually(condition: Callable[[], T], timeout: float = DEADLINE_SECONDS) -> T:
    """What `condition` returns once it is true; an assertion error after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {_name(condition)}"
        time.sleep(_PAUSE_SECONDS)
    return value


@overload
async def aeventually(
    condition: Callable[[], Awaitable[T]], timeout: float = DEADLINE_SECONDS
) -> T: ...


@overload
async def aeventually(condition: Callable[[], T], timeout: float = DEADLINE_SECONDS) -> T: ...


async def aeventually(condition: Callable[[], Any], timeout: float = DEADLINE_SECONDS) -> Any:
    """The same on an event loop; the condition may be a coroutine function."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {_name(condition)}"
        await asyncio.sleep(_PAUSE_SECONDS)


def _name(condition: Callable[..., object]) -> str:
    return getattr(condition, "__qualname__", repr(condition))
