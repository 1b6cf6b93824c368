"""Airflow, Prefect and Dagster behind one face: run a pipeline, and run the same run again."""

import json
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import SecretStr

from spooled_pipelines.dagster import SpooledResource
from spooled_pipelines.errors import SpooledError
from tests.support.prefect_server import shared_prefect_server
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Pipeline:
    """A table that is enqueued, and a wait for its batch where `max_failed` is not None."""

    data: Any
    queue_name: str
    max_failed: float | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Ran:
    """How a run ended: the batch as it was enqueued, and the error that it failed with."""

    run_id: str
    batch: dict[str, Any]
    error: BaseException | None = None


class Orchestrator(ABC):
    """One of the three, connected with a Spooled server."""

    @abstractmethod
    def run(self, pipeline: Pipeline) -> Ran:
        """Run the pipeline as a run of its own."""

    @abstractmethod
    def again(self, ran: Ran, pipeline: Pipeline) -> Ran:
        """Run the same run again, as a user does with one that failed."""

    @abstractmethod
    def kept(self) -> Iterator[bytes]:
        """Yield all that the orchestrator has written down: databases, logs, results."""


class Airflow(Orchestrator):
    """Operators that are executed as a task process does it."""

    def __init__(self, server: ServerProcess) -> None:
        connection = {
            "conn_type": "spooled",
            "host": server.host,
            "port": server.port,
            "password": server.api_key,
        }
        os.environ["AIRFLOW_CONN_SPOOLED_DEFAULT"] = json.dumps(connection)

    def run(self, pipeline: Pipeline) -> Ran:
        return self._run(pipeline, uuid.uuid4().hex)

    def again(self, ran: Ran, pipeline: Pipeline) -> Ran:
        return self._run(pipeline, ran.run_id)

    def _run(self, pipeline: Pipeline, run_id: str) -> Ran:
        from airflow.sdk.exceptions import AirflowException

        from spooled_pipelines.airflow import EnqueueBatchOperator, StreamJobsSensor

        ti = SimpleNamespace(dag_id="dag", task_id="task", map_index=-1, try_number=1)
        context: Any = {"ti": ti, "run_id": run_id, "params": {}}
        enqueue = EnqueueBatchOperator(
            task_id="task",
            data=pipeline.data,
            queue_name=pipeline.queue_name,
            **pipeline.options,
        )
        ran = Ran(run_id, {})
        try:
            enqueue.render_template_fields(context)
            ran.batch = enqueue.execute(context)
            if pipeline.max_failed is not None:
                StreamJobsSensor(
                    task_id="wait",
                    batch=ran.batch,
                    max_failed=pipeline.max_failed,
                    deferrable=False,
                ).execute(context)
        except (AirflowException, SpooledError) as error:
            ran.error = error
        return ran

    def kept(self) -> Iterator[bytes]:
        yield from _contents(Path(os.environ["AIRFLOW_HOME"]))


class Prefect(Orchestrator):
    """Flows on a real Prefect server."""

    def __init__(self, server: ServerProcess) -> None:
        from spooled_pipelines.prefect import SpooledCredentials

        self.credentials = SpooledCredentials(
            host=server.host, port=server.port, api_key=SecretStr(server.api_key)
        )
        self.credentials.save(f"server-{uuid.uuid4().hex[:8]}")

    def run(self, pipeline: Pipeline) -> Ran:
        return self._run(pipeline, None)

    def again(self, ran: Ran, pipeline: Pipeline) -> Ran:
        return self._run(pipeline, ran.run_id)

    def _run(self, pipeline: Pipeline, run_id: str | None) -> Ran:
        from prefect import flow, get_client
        from prefect.flow_engine import run_flow
        from prefect.states import AwaitingRetry

        from spooled_pipelines.prefect import enqueue_batch, wait_for_batch

        ran = Ran("", {})

        @flow(persist_result=True)
        def pipeline_flow() -> Any:
            import prefect.runtime

            ran.run_id = str(prefect.runtime.flow_run.id)
            batch = enqueue_batch(
                pipeline.data,
                pipeline.queue_name,
                credentials=self.credentials,
                **pipeline.options,
            )
            ran.batch = batch.record
            if pipeline.max_failed is not None:
                wait_for_batch(batch, max_failed=pipeline.max_failed)
            return batch

        with get_client(sync_client=True) as client:
            if run_id is None:
                flow_run = client.create_flow_run(pipeline_flow)
            else:
                client.set_flow_run_state(uuid.UUID(run_id), AwaitingRetry(), force=True)
                flow_run = client.read_flow_run(uuid.UUID(run_id))
        state: Any = run_flow(pipeline_flow, flow_run=flow_run, return_type="state")
        if not state.is_completed():
            ran.error = state.result(raise_on_failure=False)
        return ran

    def kept(self) -> Iterator[bytes]:
        from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, PREFECT_HOME

        yield from _contents(PREFECT_HOME.value())
        database = str(PREFECT_API_DATABASE_CONNECTION_URL.value()).split("///", 1)[1]
        yield from _contents(Path(database).parent)


# What the op below is to do, and where it tells of it.
_pipeline: list[Any] = []


@dg.op(required_resource_keys={"spooled"})
def enqueue_and_wait(context: dg.OpExecutionContext) -> None:
    """Do what the pipeline says."""
    pipeline, ran = _pipeline
    batch = context.resources.spooled.enqueue_batch(
        context, pipeline.data, pipeline.queue_name, **pipeline.options
    )
    ran.batch = batch.record
    if pipeline.max_failed is not None:
        batch.wait(max_failed=pipeline.max_failed)


@dg.job(
    executor_def=dg.in_process_executor,
    resource_defs={
        "spooled": SpooledResource(
            host=dg.EnvVar("TESTS_SPOOLED_HOST"),
            port=dg.EnvVar.int("TESTS_SPOOLED_PORT"),
            api_key=dg.EnvVar("TESTS_SPOOLED_KEY"),
        )
    },
)
def pipeline_job() -> None:
    """Do what the pipeline says."""
    enqueue_and_wait()


class Dagster(Orchestrator):
    """Jobs in a Dagster instance of the tests' own."""

    def __init__(self, server: ServerProcess, folder: Path) -> None:
        self._folder = folder
        os.environ["TESTS_SPOOLED_HOST"] = server.host
        os.environ["TESTS_SPOOLED_PORT"] = str(server.port)
        os.environ["TESTS_SPOOLED_KEY"] = server.api_key
        folder.mkdir()
        self._instance = dg.DagsterInstance.local_temp(
            str(folder), overrides={"telemetry": {"enabled": False}}
        )

    def run(self, pipeline: Pipeline) -> Ran:
        return self._run(pipeline, None)

    def again(self, ran: Ran, pipeline: Pipeline) -> Ran:
        return self._run(pipeline, dg.ReexecutionOptions(parent_run_id=ran.run_id))

    def _run(self, pipeline: Pipeline, options: dg.ReexecutionOptions | None) -> Ran:
        ran = Ran("", {})
        _pipeline[:] = [pipeline, ran]
        with dg.execute_job(
            dg.reconstructable(pipeline_job),
            instance=self._instance,
            reexecution_options=options,
        ) as result:
            ran.run_id = result.run_id
            if not result.success:
                failure = result.failure_data_for_node("enqueue_and_wait")
                ran.error = RuntimeError(str(failure and failure.error))
        return ran

    def kept(self) -> Iterator[bytes]:
        yield from _contents(self._folder)


class Orchestrators:
    """All three with one Spooled server, each made when it is first wanted."""

    def __init__(self, server: ServerProcess, folder: Path) -> None:
        self.server = server
        self._folder = folder
        self._made: dict[str, Orchestrator] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __getitem__(self, name: str) -> Orchestrator:
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Orchestrator:
        if name == "airflow":
            return Airflow(self.server)
        if name == "dagster":
            return Dagster(self.server, self._folder / "dagster")
        shared_prefect_server()
        return Prefect(self.server)


def _contents(folder: Path) -> Iterator[bytes]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.read_bytes()
