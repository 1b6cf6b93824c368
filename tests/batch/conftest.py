"""One suite for both servers and both clients: `door` is whichever of them, used blockingly."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import pytest

from tests.support.server_process import ServerProcess

_DRIVEN = ("AsyncBatch", "AsyncOpenBatch")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test meets both clients and both servers, and every pair of them in the long run.

    The blocking client is generated from asyncio's, so that a pair has little of its own.
    """
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            params = item.callspec.params
            pair = params.get("open_door"), params.get("any_server")
            if pair in (("asyncio", "extension"), ("sync", "plain")):
                item.add_marker(pytest.mark.long)


class AsyncDoor:
    """An asyncio client, or a batch of one, driven from blocking tests."""

    def __init__(self, target: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop

    def __repr__(self) -> str:
        return repr(self._target)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        return self._calling(value) if callable(value) else value

    def _calling(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            made = function(*arguments, **settings)
            if inspect.isasyncgen(made):
                return self._iterated(made)
            if inspect.isawaitable(made):
                made = self._loop.run_until_complete(_awaited(made))
            return AsyncDoor(made, self._loop) if type(made).__name__ in _DRIVEN else made

        return call

    def _iterated(self, generator: Any) -> Iterator[Any]:
        end = object()
        try:
            while (item := self._loop.run_until_complete(anext(generator, end))) is not end:
                yield item
        finally:
            self._loop.run_until_complete(generator.aclose())


async def _awaited(value: Any) -> Any:
    return await value


@pytest.fixture(params=["sync", "asyncio"])
def open_door(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Connects to a server with the blocking client, or with the asyncio one."""
    from spooled_pipelines import AsyncSpooledClient, connect

    with ExitStack() as stack:
        if request.param == "sync":

            def open_it(server: ServerProcess, **settings: Any) -> Any:
                made = connect(server.address, api_key=server.api_key, **settings)
                return stack.enter_context(made)
        else:
            loop = asyncio.new_event_loop()
            stack.callback(loop.close)
            stack.callback(lambda: loop.run_until_complete(loop.shutdown_default_executor()))

            def open_it(server: ServerProcess, **settings: Any) -> Any:
                made = AsyncSpooledClient(server.address, api_key=server.api_key, **settings)
                stack.callback(lambda: loop.run_until_complete(made.close()))
                return AsyncDoor(made, loop)

        yield open_it


@pytest.fixture(params=["extension", "plain"])
def any_server(
    request: pytest.FixtureRequest, server: ServerProcess, plain_server: ServerProcess
) -> ServerProcess:
    """With the batch extension, and without."""
    return server if request.param == "extension" else plain_server


@pytest.fixture
def door(open_door: Callable[..., Any], any_server: ServerProcess) -> Any:
    """A client on either server, of either kind."""
    return open_door(any_server)


@pytest.fixture
def work(any_server: ServerProcess) -> Iterator[Callable[..., int]]:
    """`work(queue, handle, limit)`: settle what is on a queue; `handle(payload)` gives a result,
    or raises for a job that is to die."""
    from spooled_pipelines import connect

    with connect(any_server.address, api_key=any_server.api_key) as client:

        def settle(
            queue: str, handle: Callable[[dict[str, Any]], dict[str, Any]], limit: int = 10**9
        ) -> int:
            done = 0
            while done < limit:
                jobs = client.dequeue(queue, "worker-1", batch_size=min(100, limit - done))
                if not jobs:
                    break
                for job in jobs:
                    try:
                        client.complete(job, result=handle(job.payload))
                    except ValueError as error:
                        client.fail(job, str(error), retry=False)
                    done += 1
            return done

        yield settle


@pytest.fixture
def flights() -> pa.Table:
    """Sixty rows of seven kinds of columns, all different."""
    return make_flights(60)


def make_flights(rows: int, first: int = 0) -> pa.Table:
    numbers = range(first, first + rows)
    return pa.table(
        {
            "flight": pa.array(numbers, pa.int64()),
            "carrier": pa.array([("AA", "UA", "B6")[i % 3] for i in numbers], pa.string()),
            "departure": pa.array([i * 60_000_000 for i in numbers], pa.timestamp("us", "UTC")),
            "delay": pa.array([None if i % 7 == 0 else i / 4 for i in numbers], pa.float64()),
            "distance": pa.array([i % 25 for i in numbers], pa.int32()),
            "cancelled": pa.array([i % 5 == 0 for i in numbers], pa.bool_()),
        }
    )
