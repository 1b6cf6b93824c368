"""Calls of one kind that come while a transaction runs share the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, cast

from spooled_pipelines.server.core.errors import RefusedError

T = TypeVar("T")
R = TypeVar("R")
_GATHERED_MAX = 500
# A lot that takes longer may wait for a lost connection; those behind it go ahead over another one.
_STUCK_SECONDS = 1.0


class MicroBatcher(Generic[T, R]):
    """Hands what has gathered to `perform`, one lot after the other.

    `perform` returns for each item its result or its refusal, after the commit. The busier the
    server, the more items share one commit; an item that comes alone waits for nobody.
    """

    def __init__(
        self, perform: Callable[[Sequence[T]], Awaitable[Sequence[R | RefusedError]]]
    ) -> None:
        self._perform = perform
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._running: set[asyncio.Task[None]] = set()
        self._began = 0.0

    async def submit(self, item: T) -> R:
        """Return the item's result; a caller that is cancelled does not take the item back."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if not self._running or asyncio.get_running_loop().time() - self._began > _STUCK_SECONDS:
            self._running.add(asyncio.create_task(self._run()))
        return await answer

    async def drained(self) -> None:
        """Wait until everything that was submitted is answered."""
        while self._running:
            await asyncio.wait(self._running)

    async def _run(self) -> None:
        while self._waiting:
            lot, self._waiting = self._waiting[:_GATHERED_MAX], self._waiting[_GATHERED_MAX:]
            self._began = asyncio.get_running_loop().time()
            results = await self._results([item for item, _ in lot])
            for (_, answer), result in zip(lot, results, strict=True):
                if answer.done():
                    continue
                if isinstance(result, Exception):
                    answer.set_exception(result)
                else:
                    answer.set_result(result)
        # Here and not later: who submits next would wait for this one.
        self._running.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _results(self, items: Sequence[T]) -> Sequence[R | Exception]:
        try:
            results = await self._perform(items)
            if len(results) != len(items):
                # Else somebody would wait for ever.
                raise RuntimeError(f"{len(results)} results for {len(items)} items")
            return results
        except RefusedError as refusal:
            if refusal.code == "UNAVAILABLE" or len(items) == 1:
                return [refusal] * len(items)
        # Whatever else fails is the caller's to see: this task has nobody to raise it to.
        except Exception as error:  # noqa: BLE001
            if len(items) == 1:
                return [error]
        # One of them spoils the lot; the others must not suffer from it.
        return [(await self._results([item]))[0] for item in items]
