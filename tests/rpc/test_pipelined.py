"""run_pipelined: in order, bounded, lazy, and clean at the first error; on both sides."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from support.waiting import eventually

from spooled_pipelines.rpc.aio import runtime as aio
from spooled_pipelines.rpc.sync import runtime as sync


class Load:
    """How many run at once, and the most that ever did."""

    def __init__(self) -> None:
        self.now = self.most = self.started = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.started += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


async def results(side: str, items, limit: int, fail_at: int | None = None, load=None) -> list[int]:
    load = load or Load()

    async def work(item: int) -> int:
        with load:
            await asyncio.sleep(0.002 if item % 3 else 0.01)
            if item == fail_at:
                raise ValueError(item)
            return item * 10

    if side == "asyncio":
        return [value async for value in aio.run_pipelined(work, items, limit)]

    def blocking() -> list[int]:
        return list(sync.run_pipelined(lambda item: asyncio.run(work(item)), items, limit))

    return await asyncio.to_thread(blocking)


@pytest.mark.parametrize("side", ["blocking", "asyncio"])
@pytest.mark.parametrize(("count", "limit"), [(0, 4), (1, 4), (20, 1), (20, 4), (3, 100)])
async def test_results_come_in_the_order_of_the_items(side: str, count: int, limit: int) -> None:
    load = Load()
    assert await results(side, range(count), limit, load=load) == [n * 10 for n in range(count)]
    assert load.most <= limit


@pytest.mark.parametrize("side", ["blocking", "asyncio"])
async def test_they_do_run_at_once(side: str) -> None:
    load = Load()
    await results(side, range(20), 4, load=load)
    assert load.most > 1


@pytest.mark.parametrize("side", ["blocking", "asyncio"])
async def test_the_first_error_ends_it_and_leaves_nothing_running(side: str) -> None:
    load = Load()
    with pytest.raises(ValueError, match="5"):
        await results(side, range(1000), 4, fail_at=5, load=load)
    assert load.now == 0
    assert load.started <= 10


@pytest.mark.parametrize("side", ["blocking", "asyncio"])
async def test_an_error_of_the_items_is_raised_as_it_is(side: str) -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise LookupError("no more")

    with pytest.raises(LookupError):
        await results(side, items(), 2)


async def test_breaking_off_early_leaves_nothing_running_on_asyncio() -> None:
    load = Load()

    async def work(item: int) -> int:
        with load:
            await asyncio.sleep(0 if item == 0 else 30)
        return item

    async for _ in (pipelined := aio.run_pipelined(work, range(100), 4)):
        break
    await pipelined.aclose()
    assert load.now == 0


def test_breaking_off_early_starts_nothing_more_when_blocking() -> None:
    load = Load()

    def work(item: int) -> int:
        with load:
            return item

    pipelined = sync.run_pipelined(work, iter(range(1000)), 4)
    assert next(pipelined) == 0
    pipelined.close()
    eventually(lambda: load.now == 0)
    assert load.started < 20
