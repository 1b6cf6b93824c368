"""A client makes no more calls a second than it may (`rate_limit`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines import SpooledClient
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc.rate_limiter import RateLimiter
from tests.support.server_process import ServerProcess

pauses = st.lists(st.floats(0, 3), min_size=1, max_size=60)


@given(st.sampled_from([0.3, 1, 2.5, 5, 25]), pauses)
def test_no_second_sees_more_calls_than_the_limit(rate: float, given_pauses: list[float]) -> None:
    now = 0.0
    pacer = RateLimiter(rate, lambda: now)
    turns: list[float] = []
    for pause in given_pauses:
        now += pause
        turns.append(now + pacer.acquire())
    assert turns == sorted(turns)
    many = max(1, int(rate))
    for turn, later in zip(turns, turns[many:], strict=False):
        assert later - turn >= many / rate - 1e-6


def test_calls_within_the_limit_do_not_wait() -> None:
    pacer = RateLimiter(5, lambda: 100.0)
    assert [pacer.acquire() for _ in range(6)] == [0, 0, 0, 0, 0, 1]
    assert RateLimiter(None).acquire() == 0


async def test_every_call_of_a_client_waits_for_its_turn(
    open_client: Callable[..., Any],
    server: ServerProcess,
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns: list[float] = []
    take = RateLimiter.acquire

    def noted(pacer: RateLimiter) -> float:
        turns.append(take(pacer))
        return turns[-1]

    monkeypatch.setattr(RateLimiter, "acquire", noted)
    client = open_client(server, rate_limit=20)
    for _ in range(25):
        await client.queue_stats(queue)
    assert len(turns) == 25
    assert turns[:20] == [0] * 20
    assert max(turns[20:]) > 0


def test_a_server_s_own_limit_is_never_met_by_a_client_that_keeps_to_it(
    start_server: Callable[..., ServerProcess], queue: str
) -> None:
    server = start_server("--rate-limit", "50", "--no-batch-extension")
    from spooled_pipelines import connect
    from spooled_pipelines.rpc.retry import RetryPolicy

    no_retry = RetryPolicy(max_attempts=1)
    with connect(server.address, api_key=server.api_key, rate_limit=40, retry=no_retry) as client:
        assert client.enqueue_batch([{"n": n} for n in range(70)], queue).created == 70


@pytest.mark.parametrize("limit", [0, -1, float("inf"), float("nan"), True])
def test_what_is_no_limit_is_refused(limit: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="rate_limit"):
        SpooledClient("localhost:1", api_key="k", rate_limit=limit)
