"""Spark: a cluster of two machines, as far as it knows, each a JVM with its Python workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyspark
from pyspark.serializers import CloudPickleSerializer
from pyspark.sql import DataFrame, SparkSession

from demo.processes import free_ports
from spooled_pipelines.engines import spark as engine
from tests.support.engines import Rows

_STAGE, _TASK = "SparkListenerStageSubmitted", "SparkListenerTaskEnd"


class Spark:
    name = "spark"
    raises_ours = False

    def __init__(self, session: SparkSession, log: Path) -> None:
        self.session = session
        self.log = log

    def frame(self, rows: Rows, partitions: int) -> Any:
        if not rows:
            return self.session.createDataFrame([], "id bigint, text string")
        spread = self.session.sparkContext.parallelize(rows, partitions)
        return self.session.createDataFrame(spread, "id bigint, text string")

    def computed(self, rows: Rows, partitions: int, each: Callable[[int], None]) -> Any:
        def look(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                for number in batch.column("id").to_pylist():
                    each(number)
                yield batch

        # A shuffle before it: with an executor goes what it has shuffled, and Spark does the stage
        # before again.
        frame = self.frame(rows, partitions).repartition(partitions)
        return frame.mapInArrow(look, frame.schema)

    def happened(self) -> dict[str, int]:
        """How many stages were done again, and how many tasks ran beside another of the same."""
        lines = [
            json.loads(line)
            for path in self.log.rglob("events_*")
            for line in path.read_text().splitlines()
        ]
        stages = [line["Stage Info"] for line in lines if line["Event"] == _STAGE]
        tasks = [line["Task Info"] for line in lines if line["Event"] == _TASK]
        return {
            "stages again": sum(stage["Stage Attempt ID"] > 0 for stage in stages),
            "speculative tasks": sum(task["Speculative"] for task in tasks),
            "tasks that failed or were ended": sum(
                task["Failed"] or task["Killed"] for task in tasks
            ),
        }

    def enqueue(self, frame: Any, queue_name: str, **arguments: Any) -> Any:
        return engine.enqueue(frame, queue_name, **arguments)

    def results(self, batch: Any) -> list[Mapping[str, Any]]:
        return [row.asDict() for row in engine.results(self.session, batch).collect()]

    def shown(self, frame: Any, queue_name: str, **arguments: Any) -> str:
        closures: list[bytes] = []
        seen: list[str] = []
        map_in_arrow = type(frame).mapInArrow

        def noted(self: DataFrame, task: Any, *rest: Any) -> DataFrame:
            closures.append(CloudPickleSerializer().dumps(task))
            made = map_in_arrow(self, task, *rest)
            seen.append(made._jdf.queryExecution().toString())
            return made

        type(frame).mapInArrow = noted
        try:
            engine.enqueue(frame, queue_name, **arguments)
        finally:
            type(frame).mapInArrow = map_in_arrow
        assert closures
        logs = [path.read_text() for path in self.log.rglob("*") if path.is_file()]
        assert logs
        return "".join(seen + logs) + "".join(one.decode("latin-1") for one in closures)


@contextmanager
def started() -> Iterator[Spark]:
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    # Otherwise the executors take whichever python3 comes first.
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    with tempfile.TemporaryDirectory(prefix="spark-") as folder, ExitStack() as stack:
        log = Path(folder, "events")
        log.mkdir()
        master = stack.enter_context(_cluster(Path(folder)))
        builder = SparkSession.builder.master(master).appName("tests")
        settings = {
            "spark.ui.enabled": "false",
            "spark.driver.memory": "512m",
            "spark.executor.memory": "600m",
            "spark.driver.host": "127.0.0.1",
            "spark.eventLog.enabled": "true",
            "spark.eventLog.dir": f"file://{log}",
            "spark.eventLog.compress": "false",
            "spark.sql.shuffle.partitions": "4",
            "spark.task.maxFailures": "8",
            # A task that takes longer than others is begun a second time.
            "spark.speculation": "true",
            "spark.speculation.quantile": "0.05",
            "spark.speculation.multiplier": "1.2",
            "spark.speculation.minTaskRuntime": "2s",
            "spark.local.dir": folder,
            "spark.log.level": "ERROR",
        }
        for name, value in settings.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
        try:
            yield Spark(session, log)
        finally:
            session.stop()


@contextmanager
def _cluster(folder: Path) -> Iterator[str]:
    """Spark's own master and two workers; yields the master's address.

    Not `local-cluster`: its executors are all on one host, and Spark begins no task a second time
    on the host where the first is.
    """
    port, *pages = free_ports(4)
    master = f"spark://127.0.0.1:{port}"
    with ExitStack() as stack:
        commands = [["master.Master", "--host", "127.0.0.1", "--port", str(port)]]
        for number in (2, 3):
            host = ["--host", f"127.0.0.{number}", "--work-dir", str(folder / f"worker-{number}")]
            commands.append(["worker.Worker", *host, "--cores", "1", "--memory", "700m", master])
        for (name, *arguments), page in zip(commands, pages, strict=True):
            log = stack.enter_context((folder / f"{name}-{page}.log").open("w"))
            process = subprocess.Popen(
                [
                    str(Path(pyspark.__file__).parent / "bin" / "spark-class"),
                    f"org.apache.spark.deploy.{name}",
                    *("--webui-port", str(page)),
                    *arguments,
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        yield master
