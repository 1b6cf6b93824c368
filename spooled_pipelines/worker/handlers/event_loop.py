"""Event loops: one that handlers cannot end, and one that they cannot block."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, TypeVar

from spooled_pipelines.worker.log import logger

T = TypeVar("T")
_Coroutine = Coroutine[Any, Any, Any] | Generator[Any, None, Any]
# The run of a handler that code belongs to; None: it is the worker's own.
CURRENT_RUN: ContextVar[object | None] = ContextVar("spooled_current_run", default=None)


class GuardedTask(asyncio.Task[Any]):
    """A task that a handler can cancel only if it belongs to the handler's own run.

    Else `for task in asyncio.all_tasks(): task.cancel()` in a handler would end the worker.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, coro: _Coroutine, **options: Any) -> None:
        super().__init__(coro, loop=loop, **options)
        self.run = CURRENT_RUN.get()

    def cancel(self, msg: Any | None = None) -> bool:
        caller = CURRENT_RUN.get()
        return (caller is None or caller is self.run) and super().cancel(msg)


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine in an event loop of its own and return its result, as asyncio.run does.

    A task that a handler started ends the loop of asyncio.run when it raises SystemExit or
    KeyboardInterrupt, and so does `loop.stop()`. This loop goes on: who awaits the task gets what
    it raised, and the other tasks notice nothing.
    """
    loop = asyncio.new_event_loop()
    loop.set_task_factory(GuardedTask)
    asyncio.set_event_loop(loop)
    try:
        task = loop.create_task(work)
        task.add_done_callback(lambda _: loop.stop())
        _run_until_done(loop, task)
        return task.result()
    finally:
        try:
            _cancel_all(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def run_in_thread(name: str, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await a coroutine that runs in a loop and a thread of its own, whatever blocks this loop.

    When this is cancelled, so is the coroutine, and waited for.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=_serve, args=(loop,), name=name, daemon=True).start()
    try:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(make(), loop))
    finally:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_end_others(), loop))
        loop.call_soon_threadsafe(loop.stop)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _end_others() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        ended = asyncio.gather(*tasks, return_exceptions=True)
        ended.add_done_callback(lambda _: loop.stop())
        _run_until_done(loop, ended)


def _run_until_done(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
    while not future.done():
        _run(loop)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    except (SystemExit, KeyboardInterrupt) as error:
        if _is_a_signal(error):
            raise
        logger.error("a task of a handler raised %s", type(error).__name__)


def _is_a_signal(error: BaseException) -> bool:
    """Return whether it is somebody's Ctrl-C, and not a handler's own KeyboardInterrupt."""
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    )
