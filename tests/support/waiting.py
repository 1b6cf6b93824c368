"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 0.1
# Long for what takes milliseconds: a busy machine is no reason to fail.
DEADLINE_SECONDS = 40.0


def eventually(condition: Callable[[], T], timeout: float = DEADLINE_SECONDS) -> T:
    """What `condition` returns once it is true; an assertion error after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        began = time.monotonic()
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {_name(condition)}"
        time.sleep(_pause(began))


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
        began = time.monotonic()
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {_name(condition)}"
        await asyncio.sleep(_pause(began))


def _pause(began: float) -> float:
    """A look that takes long leaves the processors to what it waits for."""
    return max(_PAUSE_SECONDS, min(3 * (time.monotonic() - began), _LONGEST_PAUSE_SECONDS))


def _name(condition: Callable[..., object]) -> str:
    return getattr(condition, "__qualname__", repr(condition))
