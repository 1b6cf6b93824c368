"""Many unary calls at once, to a server that knows no batches."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from spooled_pipelines.batch.aio.pipelining import pipelined as waiting
from spooled_pipelines.batch.flow_control import AdaptiveLimit
from spooled_pipelines.batch.spill.database import distinct_on_disk
from spooled_pipelines.batch.sync.pipelining import pipelined as blocking
from spooled_pipelines.errors import InvalidArgumentError, NotFoundError, SpooledError
from spooled_pipelines.rpc.aio.connection import AsyncConnection
from spooled_pipelines.rpc.settings import ConnectionSettings
from spooled_pipelines.rpc.sync.connection import Connection
from spooled_pipelines.wire import methods, spooled_v1
from tests.support.proxy import Proxy
from tests.support.server_process import ServerProcess

ENQUEUE = methods.QUEUE["Enqueue"]


class Asked:
    """Requests of rows 0, 1, 2, ... to a queue; how many were taken."""

    def __init__(self, queue: str, rows: int, bad: frozenset[int] = frozenset()) -> None:
        self.taken = 0
        self._queue, self._rows, self._bad = queue, rows, bad

    def __iter__(self) -> Iterator[bytes]:
        for row in range(self._rows):
            self.taken += 1
            name = "no name!" if row in self._bad else self._queue
            request = spooled_v1.EnqueueRequest(
                queue_name=name, idempotency_key=f"{self._queue}-{row}"
            )
            yield request.SerializeToString()


def settings_of(server: ServerProcess) -> ConnectionSettings:
    return ConnectionSettings(server.address, server.api_key)


async def gather(
    side: str,
    server: ServerProcess,
    asked: Asked,
    limit: int,
    answers: type[SpooledError] = InvalidArgumentError,
) -> AsyncGenerator[Any, None]:
    window = AdaptiveLimit(limit, limit)
    if side == "asyncio":
        async with AsyncConnection(settings_of(server)) as calls:
            async for answer in waiting(calls, ENQUEUE, asked, window, answers):
                yield answer
    else:
        with Connection(settings_of(server)) as calls:
            for answer in blocking(calls, ENQUEUE, asked, window, answers):
                yield answer


@pytest.mark.parametrize("side", ["blocking", "asyncio"])
@pytest.mark.parametrize(("rows", "limit"), [(0, 4), (1, 4), (30, 1), (200, 16)])
async def test_answers_come_in_the_order_of_the_requests(
    plain_server: ServerProcess, queue: str, side: str, rows: int, limit: int
) -> None:
    asked = Asked(queue, rows)
    first = [answer async for answer in gather(side, plain_server, asked, limit)]
    again = [answer async for answer in gather(side, plain_server, asked, limit)]
    assert [answer.created for answer in first] == [True] * rows
    assert [answer.job_id for answer in again] == [answer.job_id for answer in first]


@pytest.mark.parametrize("side", ["blocking", "asyncio"])
async def test_an_error_that_is_an_answer_has_its_place_among_them(
    plain_server: ServerProcess, queue: str, side: str
) -> None:
    asked = Asked(queue, 20, bad=frozenset({3, 17}))
    answers = [answer async for answer in gather(side, plain_server, asked, 8)]
    refused = [
        row for row, answer in enumerate(answers) if isinstance(answer, InvalidArgumentError)
    ]
    assert (len(answers), refused) == (20, [3, 17])


def test_requests_are_taken_as_there_is_room_and_none_after_breaking_off(
    plain_server: ServerProcess, queue: str
) -> None:
    asked = Asked(queue, 10_000)
    with Connection(settings_of(plain_server)) as calls:
        answers = blocking(calls, ENQUEUE, asked, AdaptiveLimit(4, 4), InvalidArgumentError)
        assert next(answers).created
        answers.close()
        taken = asked.taken
        assert taken <= 16
    assert asked.taken == taken


@pytest.mark.parametrize("side", ["blocking", "asyncio"])
async def test_what_failed_for_good_is_raised_once_all_before_it_are_answered(
    plain_server: ServerProcess, queue: str, side: str
) -> None:
    asked = Asked(queue, 10_000, bad=frozenset({5}))
    seen: list[Any] = []

    async def run() -> None:
        async for answer in gather(side, plain_server, asked, 4, NotFoundError):
            seen.append(answer)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(InvalidArgumentError):
        await run()
    assert len(seen) == 5
    assert asked.taken <= 30


def test_answers_that_were_lost_are_asked_for_again(
    open_door: Callable[..., Any], plain_server: ServerProcess, queue: str
) -> None:
    table = pa.table({"n": range(600)})
    with Proxy(plain_server.address) as proxy:
        door = open_door(SimpleNamespace(address=proxy.address, api_key=plain_server.api_key))
        cut_at: list[int] = []

        def cut_once(sent: int, _: int) -> None:
            if sent >= 100 and not cut_at:
                cut_at.append(sent)
                proxy.cut()

        batch = door.enqueue_batch(table, queue, progress=cut_once)
    assert cut_at
    assert batch.created + batch.duplicates == 600
    assert len(set(batch.ledger["job_id"].to_pylist())) == 600
    assert open_door(plain_server).queue_stats(queue).total == 600


def test_each_of_many_texts_comes_once_where_it_first_came() -> None:
    texts = [str(number % 7_000) for number in range(20_000)]
    assert list(distinct_on_disk(texts)) == [str(number) for number in range(7_000)]
    assert list(distinct_on_disk([])) == []
