"""The provider on every Airflow that it is for; what it says on an older one.

`make` builds the environments: `.venv-airflow-3.0` and so on. What runs the tests is the newest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server_process import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
OLDEST, *_ = VERSIONS = ("3.0", "3.1", "3.2")
NEWEST = Path(sys.executable)
# A DAG of all that the provider is about, by dag.test(): what is deferred is waited for inline.
RUN = """
import json, sys, threading
from tests.support.airflow_versions import bag_of

from spooled_pipelines.airflow import SpooledHook

bag = bag_of(sys.argv[1])
over = threading.Event()


def work():
    with SpooledHook().get_conn() as client:
        while not over.wait(0.05):
            for job in client.dequeue("of-all", "hand", batch_size=100):
                client.complete(job, result={"double": 2 * job.payload["id"]})


threading.Thread(target=work, daemon=True).start()
run = bag.get_dag("of_all").test()
over.set()
returned = {ti.task_id: ti.xcom_pull(ti.task_id) for ti in run.get_task_instances()}
print("RETURNED", json.dumps([run.state, returned]))
"""
DAG = """
from airflow.sdk import DAG, task

from spooled_pipelines.airflow import BatchResultsOperator, EnqueueBatchOperator, StreamJobsSensor
from spooled_pipelines.airflow import enqueue_batch

with DAG("of_all", schedule=None):

    @task
    def rows():
        return [{"id": number} for number in range(6)]

    enqueue = EnqueueBatchOperator(task_id="enqueue", data=rows(), queue_name="of-all", key="id")
    wait = StreamJobsSensor(task_id="wait", batch=enqueue.output, timeout=60)
    results = BatchResultsOperator(task_id="results", batch=enqueue.output)

    @enqueue_batch(queue_name="of-all", wait_for_completion=True)
    def more(run_id):
        yield [{"id": 100, "run": run_id}]

    wait >> results
    more()
"""


def python_of(version: str) -> Path:
    """The Python of an environment with that Airflow, which is built where it is not there."""
    environment = f".venv-airflow-{version}"
    if not (ROOT / environment / ".installed").exists():
        told = ["make", f"PYTHON={sys.executable}", f"{environment}/.installed"]
        subprocess.run(told, check=True, cwd=ROOT)
    return ROOT / environment / "bin" / "python"


def run_dag(python: Path, folder: Path, server: ServerProcess) -> None:
    dags = folder / "dags"
    dags.mkdir()
    (dags / "of_all.py").write_text(DAG)
    place = {"host": server.host, "port": server.port, "password": server.api_key}
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{folder}/logs",
        "AIRFLOW_CONN_SPOOLED_DEFAULT": json.dumps({"conn_type": "spooled", **place}),
    }
    done = subprocess.run(
        [python, "-c", RUN, dags],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("RETURNED "))
    state, returned = json.loads(line.removeprefix("RETURNED "))
    assert state == "success", done.stdout[-9000:]
    assert (returned["enqueue"]["created"], returned["wait"]["completed"]) == (6, 6)
    assert sorted(row["double"] for row in returned["results"]) == [0, 2, 4, 6, 8, 10]
    assert returned["more"]["completed"] == 1


@pytest.mark.timeout(1800)
def test_a_dag_runs_on_the_oldest_airflow(tmp_path: Path, server: ServerProcess) -> None:
    run_dag(python_of(OLDEST), tmp_path, server)


@pytest.mark.long
def test_the_same_dag_runs_on_the_newest(tmp_path: Path, server: ServerProcess) -> None:
    run_dag(NEWEST, tmp_path, server)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_provider_does_all_of_it_on_each_older_airflow(
    version: str, tmp_path: Path, server: ServerProcess
) -> None:
    run_dag(python_of(version), tmp_path, server)
    program = [
        str(python_of(version)),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/airflow",
    ]
    subprocess.run([*program, "-m", "not long and not airflow"], check=True, cwd=ROOT)


OLDER = """
import sys, types

airflow = types.ModuleType("airflow")
airflow.__version__ = "2.11.2"
sys.modules["airflow"] = airflow
from spooled_pipelines.airflow import BatchDoneTrigger
"""


def test_an_older_airflow_is_told_which_one_is_needed() -> None:
    program = [sys.executable, "-c", OLDER]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "needs Airflow 3.0 or newer, and this is 2.11.2" in done.stderr
