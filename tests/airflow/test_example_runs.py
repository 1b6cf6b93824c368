"""The example DAGs run however they are started: with a date, without one, and as a backfill."""

from __future__ import annotations

import threading

import pytest

from tests.support.standalone import BUSY_SECONDS, World

pytestmark = [pytest.mark.airflow, pytest.mark.long, pytest.mark.timeout(1800)]
EXAMPLES = ("sales", "readings", "retry_dead_letters")


def test_each_runs_with_a_date_without_one_and_as_a_backfill(world: World) -> None:
    world.airflow.knows(EXAMPLES)
    over = threading.Event()

    def work() -> None:
        with world.client() as client:
            while not over.wait(0.2):
                for queue in ("sales-2026-01", "readings", "orders"):
                    for job in client.dequeue(queue, "hand", batch_size=100):
                        client.complete(job)

    with world.client() as client:
        # What `retry_dead_letters` is about.
        client.enqueue_batch([{"id": 1}], "orders", name="dead")
        client.fail(client.dequeue("orders", "hand")[0], "Timeout: too slow", retry=False)
    working = threading.Thread(target=work)
    working.start()
    try:
        ends = {}
        for dag_id in EXAMPLES:
            assert world.airflow.run_at(dag_id, "undated")
            assert world.airflow.run_at(dag_id, "dated", "2026-01-20T00:00:00Z")
            ends |= {(dag_id, "undated"): "success", (dag_id, "dated"): "success"}
        world.airflow.backfill("sales", "2026-01-05T00:00:00Z", "2026-01-07T00:00:00Z")
        days = (5, 6, 7)
        ends |= {("sales", f"backfill__2026-01-0{n}T00:00:00+00:00"): "success" for n in days}
        world.airflow.all_end(ends, BUSY_SECONDS)
    finally:
        over.set()
        working.join()
