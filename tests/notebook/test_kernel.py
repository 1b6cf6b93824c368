"""What cells do in a real kernel: shown, live, interrupted, refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines import SpooledClient, connect
from spooled_pipelines.worker import Discard, Worker
from tests.support.kernel import Kernel, shown
from tests.support.proxy import Proxy
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually

IMPORTS = """
import pandas as pd
from spooled_pipelines.notebook import bulk_enqueue, watch
"""


@pytest.fixture(scope="module")
def kernel(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel for all of them, whose environment names the shared server."""
    named = {"SPOOLED_GRPC_ADDRESS": server.address, "SPOOLED_API_KEY": server.api_key}
    with Kernel(tmp_path_factory.mktemp("kernel"), **named) as running:
        running.run(IMPORTS)
        yield running


def test_a_cell_shows_the_plan_then_a_bar_then_what_became_of_it(
    kernel: Kernel, queue: str, server: ServerProcess
) -> None:
    cell = f"bulk_enqueue(pd.DataFrame({{'id': range(500)}}), {queue!r}, key='id')"
    seen = kernel.run(cell)
    html = shown(seen)
    plan, _, summary = html.partition("Enqueued")
    assert "new jobs" in plan
    assert f"queue {queue} on {server.address}" in plan
    assert "{&quot;id&quot;: 0}" in plan
    assert ">500<" in summary
    # The bar is HTML, and is saved as it ended.
    assert "500 of 500 rows (100%)" in html
    assert "500 of 500 rows (100%)" in shown(seen, "text/plain")
    assert not [m for m in seen if m["msg_type"] == "stream"]
    for text in (html, shown(seen, "text/plain"), json.dumps([m["content"] for m in seen])):
        assert server.api_key not in text
        assert "<script" not in text
    assert "nothing was enqueued twice" in shown(kernel.run(cell))


def test_a_view_follows_the_batch_while_the_kernel_is_free(
    kernel: Kernel, client: SpooledClient, queue: str
) -> None:
    kernel.run(f"sent = bulk_enqueue(pd.DataFrame({{'id': range(200)}}), {queue!r}, key='id')")
    kernel.views.clear()
    kernel.run("view = watch(sent)\nview")
    assert "not known" in _html(kernel)
    # Cells run meanwhile: nothing of the batch is done yet.
    assert "'pending': 200" in shown(kernel.run("dict(pending=sent.stats().pending)"), "text/plain")

    def handler(job: Any) -> None:
        if job.payload["id"] == 7:
            raise Discard("<b>seven</b>")

    with Worker(client, queue, handler):
        kernel.see(lambda message: ">settled<" in json.dumps(message["content"]))
    assert "200 of 200 jobs (100%)" in _html(kernel)
    assert "1 × &lt;b&gt;seven&lt;/b&gt;" in _html(kernel)
    assert "(False, 1)" in shown(kernel.run("view.running, view.wait().failed"), "text/plain")


def _html(kernel: Kernel) -> str:
    """What the views show now."""
    return "\n".join(view.get("text/html", "") for view in kernel.views.values())


def test_looking_ends_when_it_is_told_to_and_the_jobs_stay(
    kernel: Kernel, client: SpooledClient, queue: str
) -> None:
    kernel.run(f"sent = bulk_enqueue(pd.DataFrame({{'id': range(3)}}), {queue!r}, key='id')")
    kernel.views.clear()
    kernel.run("view = watch(sent)\nview.stop()")
    assert "no longer watched" in _html(kernel)
    assert "False" in shown(kernel.run("view.running"), "text/plain")
    assert client.queue_stats(queue).pending == 3


def test_the_button_ends_the_looking_and_goes(
    kernel: Kernel, client: SpooledClient, queue: str
) -> None:
    kernel.run(f"sent = bulk_enqueue(pd.DataFrame({{'id': range(3)}}), {queue!r}, key='id')")
    kernel.views.clear()
    opened = [
        message["content"]
        for message in kernel.run("view = watch(sent)")
        if message["msg_type"] == "comm_open"
    ]
    (button,) = [one for one in opened if one["data"]["state"].get("description")]
    assert button["data"]["state"]["description"] == "Stop watching"
    kernel.press(button["comm_id"])
    kernel.see(
        lambda message: (
            message["msg_type"] == "comm_close"
            and message["content"]["comm_id"] == button["comm_id"]
        )
    )
    assert "no longer watched" in _html(kernel)
    assert "False" in shown(kernel.run("view.running"), "text/plain")
    assert client.queue_stats(queue).pending == 3


def test_interrupting_the_kernel_stops_and_the_same_cell_goes_on(
    start_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    server = start_server()
    with (
        Proxy(server.address) as proxy,
        Kernel(
            tmp_path, SPOOLED_GRPC_ADDRESS=proxy.address, SPOOLED_API_KEY=server.api_key
        ) as kernel,
        connect(server.address, api_key=server.api_key) as client,
    ):
        kernel.run(IMPORTS + "df = pd.DataFrame({'id': range(30_000)})")
        cell = "sent = bulk_enqueue(df, 'orders', key='id')"
        paused = threading.Event()

        def pause() -> None:
            eventually(lambda: client.queue_stats("orders").total)
            server.pause()
            paused.set()

        # In the middle of the rows: before them, 1.0 MB are sent for the plan.
        proxy.strike(2_000_000, pause)
        running = kernel.begin(cell)
        kernel.see(lambda message: "new jobs" in json.dumps(message["content"]))
        assert paused.wait(60)
        kernel.interrupt()
        seen = kernel.finish(running)
        server.resume()
        (error,) = [message["content"] for message in seen if message["msg_type"] == "error"]
        (told,) = error["traceback"]
        assert told.startswith("Interrupted: ")
        assert "of 30,000 rows were acknowledged" in told
        assert "Run the same cell again" in told
        kernel.run(cell)
        assert client.queue_stats("orders").total == 30_000
        assert "30000" in shown(kernel.run("sent.created + sent.duplicates"), "text/plain")


def test_much_and_far_away_need_a_yes_after_the_plan(kernel: Kernel, queue: str) -> None:
    many = f"bulk_enqueue(pd.DataFrame({{'id': range(100_001)}}), {queue!r}, key='id'"
    seen = kernel.finish(kernel.begin(f"{many})"))
    assert "100,001" in shown(seen)
    (error,) = [message["content"] for message in seen if message["msg_type"] == "error"]
    assert error["ename"] == "ConfirmationNeededError"
    (told,) = error["traceback"]
    assert "nothing was sent" in told
    assert "confirm=True" in told


def test_an_error_about_the_data_is_not_behind_a_screen_of_calls(
    kernel: Kernel, queue: str
) -> None:
    running = kernel.begin(f"bulk_enqueue(pd.DataFrame({{'id': [1]}}), {queue!r}, key='idd')")
    (error,) = [m["content"] for m in kernel.finish(running) if m["msg_type"] == "error"]
    lines = "\n".join(error["traceback"]).splitlines()
    assert len(lines) < 24, lines
    assert "Did you mean 'id'?" in lines[-1]


def test_a_worker_in_the_kernel_logs_to_a_card_and_what_waits_says_why(tmp_path: Path) -> None:
    with Kernel(tmp_path, SPOOLED_GRPC_ADDRESS="", SPOOLED_API_KEY="") as alone:
        cells = [
            IMPORTS,
            "from spooled_pipelines.worker import Worker",
            "sent = bulk_enqueue(pd.DataFrame({'id': range(9)}), 'q', key='id')",
            "def handler(job):\n    raise ValueError(f'HTTP 503 for {job.payload[\"id\"]}')",
            "worker = Worker(sent.client, 'q', handler).start()",
            "import time\nwhile sent.stats().waiting < 9: time.sleep(0.05)",
            "sent.retry_failed('HTTP')",
            "view = watch(sent)",
        ]
        seen = [message for cell in cells for message in alone.run(cell)]
        assert not [each for each in seen if each["content"].get("name") == "stderr"]
        said = "".join(each["content"].get("text", "") for each in seen)
        assert "has no dead letter with 'HTTP' in its error" in said
        assert "9 × ValueError: HTTP 503 for …" in said
        shows = _html(alone)
        assert "Workers in this notebook" in shows
        assert "9 to be retried, the next in" in shows
        assert "sent</th>" in shows
        assert "9 of 9 rows (100%)" in shows
        assert "<th>error</th>" in shown(alone.run("sent.failed()"))
        assert "retrying</th>" in shown(alone.run("sent.stats()"))
        waiting = alone.begin("view.wait()")
        alone.see(lambda message: "interrupt the kernel to go on" in json.dumps(message["content"]))
        alone.interrupt()
        (error,) = [m for m in alone.finish(waiting) if m["msg_type"] == "error"]
        assert error["content"]["traceback"] == [
            "Interrupted: no longer waiting; the jobs and the view go on, and wait() waits again"
        ]
