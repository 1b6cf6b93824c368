"""`work` as a command: several queues, several processes, reload, and signals to all of them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from spooled_pipelines import SpooledClient
from spooled_pipelines.cli.commands.work import parse_queues
from spooled_pipelines.cli.exit_codes import UsageError
from tests.support.processes import is_alive
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually

StartWorker = Callable[..., Any]
Runs = Callable[[str], list[tuple[int, int]]]


def workers_of(process: Any) -> list[int]:
    return sorted(
        each.pid for each in psutil.Process(process.pid).children() if "work" in _command(each)
    )


def _command(process: psutil.Process) -> list[str]:
    """Nothing of one that has ended, be it while it is looked at."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def test_several_processes_share_the_work_and_stop_together(
    server: ServerProcess,
    client: SpooledClient,
    queue: str,
    runs: Runs,
    start_worker: StartWorker,
) -> None:
    client.enqueue_batch([{"n": n} for n in range(500)], queue, key="n")
    fleet = start_worker(server, queue, "handlers:quick", "--processes", "2")
    eventually(lambda: client.queue_stats(queue).completed == 500, 60)
    eventually(lambda: len(workers_of(fleet)) == 2)
    fleet.send(signal.SIGTERM)
    assert fleet.ended() == 0
    assert "500 completed" in fleet.log.read_text()
    assert len({n for n, _ in runs("ran")}) == 500


def test_a_process_that_is_killed_is_replaced_and_its_end_is_told(
    server: ServerProcess, client: SpooledClient, queue: str, fill: Any, start_worker: StartWorker
) -> None:
    fleet = start_worker(server, queue, "handlers:quick", "--processes", "2")
    [first, second] = eventually(lambda: found if len(found := workers_of(fleet)) == 2 else [])
    os.kill(first, signal.SIGKILL)
    eventually(lambda: len(found := workers_of(fleet)) == 2 and first not in found)
    assert second in workers_of(fleet)
    fill(5)
    eventually(lambda: client.queue_stats(queue).completed == 5)
    eventually(lambda: "ended with SIGKILL" in fleet.log.read_text())
    fleet.send(signal.SIGINT)
    assert fleet.ended() == 0


def test_workers_of_a_fleet_that_was_killed_end_by_themselves(
    server: ServerProcess, queue: str, start_worker: StartWorker
) -> None:
    fleet = start_worker(server, queue, "handlers:quick", "--processes", "2")
    members = eventually(lambda: found if len(found := workers_of(fleet)) == 2 else [])
    eventually(lambda: fleet.log.read_text().count("takes jobs") == 2)
    fleet.send(signal.SIGKILL)
    fleet.ended()
    eventually(lambda: not any(map(is_alive, members)))


def test_what_starting_again_does_not_cure_ends_the_fleet(
    server: ServerProcess, queue: str, start_worker: StartWorker
) -> None:
    fleet = start_worker(server, queue, "handlers:nothing_there", "--processes", "2")
    assert fleet.ended(60) == 2
    assert "handlers has no nothing_there" in fleet.log.read_text()


def test_changed_code_is_taken_on(
    server: ServerProcess,
    client: SpooledClient,
    queue: str,
    fill: Any,
    folder: Path,
    start_worker: StartWorker,
) -> None:
    fleet = start_worker(server, queue, "handlers:quick", "--reload")
    [first] = fill(1)
    eventually(lambda: client.get_job(first).result == {"n": 0}, 60)
    code = (folder / "handlers.py").read_text()
    (folder / "handlers.py").write_text(code.replace('{"n": job', '{"new": job'))
    eventually(lambda: "changed, restarting" in fleet.log.read_text())
    eventually(lambda: fleet.log.read_text().count("takes jobs") == 2, 60)
    [second] = fill(1)
    eventually(lambda: client.get_job(second).result == {"new": 0})
    fleet.send(signal.SIGTERM)
    assert fleet.ended() == 0


def test_json_lines_have_the_facts_of_a_job_as_fields(
    server: ServerProcess, client: SpooledClient, queue: str, start_worker: StartWorker
) -> None:
    job_id = client.enqueue(queue, {"no": "n"}).job_id
    worker = start_worker(server, queue, "handlers:quick", "--drain", "--log-format", "json")
    assert worker.ended() == 0
    lines = worker.log.read_text().splitlines()
    failed = [json.loads(line) for line in lines if "job failed" in line]
    assert [(line["job_id"], line["attempt"], line["queue"]) for line in failed] == [
        (job_id, 1, queue)
    ]
    assert failed[0]["error"] == "KeyError"


def test_queues_on_the_command_line_may_have_weights() -> None:
    assert parse_queues("orders") == {"orders": 1.0}
    assert parse_queues("orders=3, mail=0.5,x") == {"orders": 3.0, "mail": 0.5, "x": 1.0}
    with pytest.raises(UsageError, match="many"):
        parse_queues("orders=many")
    with pytest.raises(UsageError, match="named twice"):
        parse_queues("a,a")
