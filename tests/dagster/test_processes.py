"""Runs in processes of their own, under a real `dagster dev`: killed, terminated, and sensed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import psutil
import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus

from spooled_pipelines import SpooledClient
from spooled_pipelines.worker import Worker
from tests.support.doc_setup import free_ports
from tests.support.proxy import Proxy
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
ROWS = 20_000
HALF_BYTES = 400_000
QUEUE = "dagster-processes"
DEFINITIONS = """
import dagster as dg

from spooled_pipelines.dagster import SpooledResource, settled_batch_sensor

QUEUE = "dagster-processes"


@dg.op
def fan_out(context: dg.OpExecutionContext, spooled: SpooledResource) -> None:
    path = dg.EnvVar("TESTS_TABLE").get_value()
    spooled.enqueue_batch(context, path, QUEUE, key="id").wait()


@dg.job
def fan_out_job():
    fan_out()


@dg.op
def report(context: dg.OpExecutionContext) -> None:
    context.log.info(context.run.tags["spooled/batch_id"])


@dg.job
def report_job():
    report()


definitions = dg.Definitions(
    jobs=[fan_out_job, report_job],
    sensors=[
        settled_batch_sensor(
            "settled",
            QUEUE,
            target=report_job,
            minimum_interval_seconds=1,
            default_status=dg.DefaultSensorStatus.RUNNING,
        )
    ],
    resources={
        "spooled": SpooledResource(
            host=dg.EnvVar("TESTS_HOST"),
            port=dg.EnvVar.int("TESTS_PORT"),
            api_key=dg.EnvVar("TESTS_KEY"),
        )
    },
)
"""
_LAUNCH = """
mutation ($selector: JobOrPipelineSelector!, $tags: [ExecutionTag!]) {
  launchRun(executionParams: {selector: $selector, executionMetadata: {tags: $tags}}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
_AGAIN = """
mutation ($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
_TERMINATE = """
mutation ($id: String!) { terminateRun(runId: $id) { __typename } }
"""


class Deployed:
    """A `dagster dev` with its web server, daemon and code server."""

    def __init__(self, url: str, instance: DagsterInstance) -> None:
        self.url = url
        self.instance = instance

    def ask(self, query: str, **variables: Any) -> Any:
        asked = {"query": query, "variables": variables}
        answer = httpx.post(f"{self.url}/graphql", json=asked, timeout=60).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def launch(self) -> str:
        selector = {
            "jobName": "fan_out_job",
            "repositoryName": "__repository__",
            "repositoryLocationName": "definitions.py",
        }
        launched = self.ask(_LAUNCH, selector=selector, tags=[])["launchRun"]
        return str(launched["run"]["runId"])

    def again(self, run_id: str) -> str:
        params = {"parentRunId": run_id, "strategy": "FROM_FAILURE"}
        launched = self.ask(_AGAIN, params=params)["launchRunReexecution"]
        return str(launched["run"]["runId"])

    def run(self, run_id: str) -> DagsterRun:
        found = self.instance.get_run_by_id(run_id)
        assert found is not None
        return found

    def status(self, run_id: str, *wanted: DagsterRunStatus) -> DagsterRunStatus:
        """Wait until the run has one of these statuses, and return it."""
        return eventually(
            lambda: status if (status := self.run(run_id).status) in wanted else None, 180
        )  # type: ignore[return-value]

    def kill(self, run_id: str) -> None:
        """Kill the process of a run, and those of its steps."""
        logged = " ".join(event.message for event in self.instance.all_logs(run_id))
        run = psutil.Process(int(re.findall(r"pid: (\d+)", logged)[0]))
        for process in (*run.children(recursive=True), run):
            process.kill()


@pytest.fixture(scope="module")
def cut(server: ServerProcess) -> Iterator[Proxy]:
    with Proxy(server.address) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def deployed(
    server: ServerProcess, cut: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("deployed")
    (folder / "definitions.py").write_text(DEFINITIONS)
    monitoring = "run_monitoring: {enabled: true, poll_interval_seconds: 1}\n"
    (folder / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{monitoring}")
    pd.DataFrame({"id": range(ROWS), "text": [f"{n:040d}" for n in range(ROWS)]}).to_parquet(
        folder / "table.parquet"
    )
    host, _, port = cut.address.rpartition(":")
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(folder),
        "TESTS_HOST": host,
        "TESTS_PORT": port,
        "TESTS_KEY": server.api_key,
        "TESTS_TABLE": str(folder / "table.parquet"),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    web = free_ports(1)
    command = [sys.executable, "-m", "dagster", "dev", "-f", "definitions.py", "-p", str(web)]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            url = f"http://127.0.0.1:{web}"
            eventually(lambda: _answers(url), 180)
            with DagsterInstance.from_config(str(folder)) as instance:
                yield Deployed(url, instance)
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/server_info", timeout=10).is_success
    except httpx.HTTPError:
        return False


def test_a_run_killed_while_it_enqueues_doubles_and_loses_no_row(
    deployed: Deployed, cut: Proxy, client: SpooledClient
) -> None:
    runs: list[str] = []
    cut.strike(HALF_BYTES, lambda: deployed.kill(runs[0]))
    runs.append(deployed.launch())
    deployed.status(runs[0], DagsterRunStatus.FAILURE)
    (cut_off,) = client.batches(QUEUE)
    assert 0 < cut_off.total < ROWS
    assert not cut_off.sealed

    with Worker(client, QUEUE, lambda _: None, concurrency=32):
        again = deployed.again(runs[0])
        deployed.status(again, DagsterRunStatus.SUCCESS)
    (stats,) = client.batches(QUEUE)
    assert (stats.batch_id, stats.total, stats.completed) == (cut_off.batch_id, ROWS, ROWS)
    eventually(_reports(deployed, [stats.batch_id]), 120)


def test_a_run_killed_while_it_waits_continues_with_its_batch(
    deployed: Deployed, client: SpooledClient
) -> None:
    run = deployed.launch()
    (batch_id,) = eventually(_open(client), 180)
    deployed.kill(run)
    deployed.status(run, DagsterRunStatus.FAILURE)

    with Worker(client, QUEUE, lambda _: None, concurrency=32):
        again = deployed.again(run)
        deployed.status(again, DagsterRunStatus.SUCCESS)
    stats = client.batch(batch_id).stats()
    assert (stats.total, stats.completed) == (ROWS, ROWS)
    eventually(_reports(deployed, [batch_id]), 120)


def test_a_terminated_run_cancels_its_jobs(deployed: Deployed, client: SpooledClient) -> None:
    run = deployed.launch()
    (batch_id,) = eventually(_open(client), 180)
    deployed.ask(_TERMINATE, id=run)
    deployed.status(run, DagsterRunStatus.CANCELED)
    eventually(lambda: client.batch(batch_id).stats().cancelled == ROWS, 60)


def test_the_sensor_has_started_one_run_for_each_batch(
    deployed: Deployed, client: SpooledClient
) -> None:
    settled = [stats.batch_id for stats in client.batches(QUEUE) if stats.settled]
    assert len(settled) == 3
    eventually(_reports(deployed, settled), 120)
    reports = [run for run in deployed.instance.get_runs() if run.job_name == "report_job"]
    assert sorted(run.tags["spooled/batch_id"] for run in reports) == sorted(settled)


def _open(client: SpooledClient) -> Callable[[], list[str]]:
    return lambda: [b.batch_id for b in client.batches(QUEUE) if b.sealed and not b.settled]


def _reports(deployed: Deployed, batch_ids: list[str]) -> Callable[[], bool]:
    def reported() -> bool:
        runs = deployed.instance.get_runs()
        done = {r.tags["spooled/batch_id"] for r in runs if r.job_name == "report_job"}
        return done >= set(batch_ids)

    return reported
