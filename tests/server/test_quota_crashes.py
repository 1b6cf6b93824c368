"""A quota and kill -9: what is counted is what is there, however often the server dies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from spooled_pipelines import SpooledClient, connect, errors
from spooled_pipelines.rpc.retry import RetryPolicy
from tests.support.server_process import ServerProcess

QUOTA, KILLS = 1_500, 2
PATIENT = RetryPolicy(max_attempts=40, max_seconds=0.5)


def upload(client: SpooledClient, name: str) -> None:
    for part in range(100):
        table = pa.table({"n": range(part * 50, part * 50 + 50)})
        client.enqueue_batch(table, name, name=str(part))


def enqueue(client: SpooledClient, name: str) -> None:
    for number in range(QUOTA + 1):
        client.enqueue(name, {}, idempotency_key=f"{name}-{number}")


def test_exactly_the_quota_is_made_over_any_number_of_crashes(
    tmp_path: Path, store_url: str, eventually: Callable[..., object]
) -> None:
    arguments = ("--store", store_url, "--daily-quota", str(QUOTA))
    with ServerProcess(tmp_path / "unused.db", *arguments) as server:

        def open_client() -> SpooledClient:
            return connect(
                server.address, api_key=server.api_key, retry=PATIENT, timeout_seconds=60
            )

        ended: list[errors.SpooledError] = []

        def until_refused(work: Callable[[SpooledClient, str], None], name: str) -> None:
            with open_client() as client:
                try:
                    work(client, name)
                except errors.SpooledError as error:
                    ended.append(error)

        threads = [threading.Thread(target=until_refused, args=(upload, f"u{n}")) for n in range(2)]
        threads += [
            threading.Thread(target=until_refused, args=(enqueue, f"e{n}")) for n in range(2)
        ]
        names = ["u0", "u1", "e0", "e1", "last"]

        def made() -> int:
            with open_client() as client:
                return sum(client.queue_stats(name).total for name in names)

        for thread in threads:
            thread.start()
        for kill in range(1, KILLS + 1):
            eventually(lambda kill=kill: made() >= kill * QUOTA // (KILLS + 2), timeout=60)
            server.kill()
            server.restart()
        for thread in threads:
            thread.join(90)
        assert [type(error) for error in ended] == [errors.QuotaExceededError] * len(threads)
        # The last chunk may have been too large for what was left of the day.
        assert QUOTA - 50 <= made() <= QUOTA
        until_refused(enqueue, "last")
        assert f"({QUOTA}/{QUOTA})" in ended[-1].message
        assert made() == QUOTA
