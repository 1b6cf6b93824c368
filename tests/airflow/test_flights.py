"""The example DAG: its key, its work on a flight, and a whole run of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.server_process import ServerProcess

DAGS = Path(__file__).resolve().parents[2] / "dags"


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    """The whole year, as the DAG reads it."""
    sys.path.insert(0, str(DAGS))
    try:
        from flights import read_flights
    finally:
        sys.path.remove(str(DAGS))
    return read_flights({"rows": "all"})


@pytest.mark.usefixtures("dags_importable")
class TestTheTable:
    def test_each_of_the_336_776_flights_has_a_key_of_its_own(self, flights: pd.DataFrame) -> None:
        from flights import KEY

        assert len(flights) == 336_776
        assert not flights.duplicated(KEY).any()
        assert not flights[KEY].isna().any(axis=None)

    def test_the_whole_year_can_be_read_piece_by_piece(self, flights: pd.DataFrame) -> None:
        from spooled_pipelines.batch.source.open import open_source

        assert sum(batch.num_rows for batch in open_source(flights).batches) == 336_776

    @pytest.mark.parametrize(("rows", "count"), [("january", 27_004), ("50", 50), (7, 7)])
    def test_as_many_rows_are_read_as_asked_for(self, rows: Any, count: int) -> None:
        from flights import read_flights

        read = read_flights({"rows": rows})
        assert len(read) == count
        assert set(read["month"]) == {1}

    def test_rows_that_make_no_sense_are_refused_by_value(self) -> None:
        from flights import read_flights

        with pytest.raises(ValueError, match="'february'"):
            read_flights({"rows": "february"})


@pytest.mark.usefixtures("dags_importable")
class TestTheWork:
    FLIGHT: ClassVar[dict[str, Any]] = {
        "carrier": "UA",
        "flight": 1545,
        "origin": "EWR",
        "dest": "IAH",
        "time_hour": "2013-01-01T10:00:00Z",
        "distance": 1400,
        "dep_time": 517,
        "dep_delay": 20,
        "arr_delay": 11,
        "air_time": 210,
    }

    def test_minutes_made_up_and_ground_speed(self) -> None:
        [result] = self.worked([self.FLIGHT])
        assert result["outcome"] == "landed"
        assert result["made_up_minutes"] == 9
        assert result["ground_speed_mph"] == 400.0
        assert (result["flight"], result["route"]) == ("UA1545", "EWR-IAH")

    def worked(self, flights: list[dict[str, Any]]) -> list[dict[str, Any]]:
        from flight_handler import FLIGHT, fly

        return fly(pa.RecordBatch.from_pylist(flights, FLIGHT)).to_pylist()

    @pytest.mark.parametrize(
        ("missing", "outcome"),
        [
            (("dep_time", "dep_delay", "arr_delay", "air_time"), "cancelled"),
            (("arr_delay", "air_time"), "diverted"),
        ],
    )
    def test_a_flight_that_never_arrived_has_no_numbers(
        self, missing: tuple[str, ...], outcome: str
    ) -> None:
        without = {**self.FLIGHT, **dict.fromkeys(missing)}
        result, landed = self.worked([without, self.FLIGHT])
        assert result["outcome"] == outcome
        assert result["made_up_minutes"] is None
        assert result["ground_speed_mph"] is None
        assert landed["outcome"] == "landed"

    def test_every_real_flight_has_an_outcome_that_fits_its_row(
        self, flights: pd.DataFrame
    ) -> None:
        some = flights.sample(5000, random_state=1)
        rows = some.astype(object).where(some.notna(), None).to_dict("records")
        for row, result in zip(rows, self.worked(cast("Any", rows)), strict=True):
            assert (result["outcome"] == "landed") == (row["arr_delay"] is not None)
            assert (result["outcome"] == "cancelled") == (row["dep_time"] is None)

    def test_the_handler_needs_neither_airflow_nor_pandas(self) -> None:
        check = "import sys, flight_handler; print(*({'airflow', 'pandas'} & set(sys.modules)))"
        done = subprocess.run(
            [sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=DAGS
        )
        assert done.stdout.split() == []


@pytest.mark.usefixtures("dags_importable")
class TestTheReport:
    def results(self, count: int) -> pa.Table:
        rows = [
            {
                "status": "completed",
                "outcome": "landed",
                "flight": f"UA{n}",
                "carrier": "UA" if n % 2 else "DL",
                "route": "EWR-IAH",
                "distance_miles": 1000 + n,
                "dep_delay_minutes": 30,
                "made_up_minutes": 10 if n % 2 else -10,
                "ground_speed_mph": 400.0 + n,
            }
            for n in range(count)
        ]
        return pa.Table.from_pylist(rows)

    def test_it_finds_the_fastest_flight_and_the_best_airline(self) -> None:
        from flight_report import summarize

        summary = summarize(self.results(100))
        assert summary["fastest"] == "UA99 EWR-IAH at 499 mph"
        assert "100 flights left 15+ minutes late" in summary["finding"]
        assert "United Air Lines Inc. with 10.0" in summary["finding"]

    @pytest.mark.parametrize("count", [0, 1, 100])
    def test_it_draws_whatever_there_is(self, count: int, tmp_path: Path) -> None:
        from flight_report import draw

        draw(self.results(count), tmp_path / "plot.png")
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def worker(server: ServerProcess) -> Iterator[subprocess.Popen[bytes]]:
    """`spooled-pipelines work`, started where the handler is."""
    command = [sys.executable, "-m", "spooled_pipelines.cli.main", "work"]
    process = subprocess.Popen(
        [*command, "flights", "flight_handler:fly", "--address", server.address],
        cwd=DAGS,
        env={**os.environ, "SPOOLED_API_KEY": server.api_key},
    )
    yield process
    process.terminate()
    assert process.wait(30) in (0, 130, 143)


# Airflow changes much in a process that runs a DAG; this one is its own.
RUN_DAG = """
import json, sys
from tests.support.airflow_versions import bag_of

bag = bag_of(sys.argv[1])
conf = {"rows": "300", "output": sys.argv[2]}
for _ in range(2):
    run = bag.get_dag("flights").test(run_conf=conf)
    assert run.state == "success", run.state
    returned = {ti.task_id: ti.xcom_pull(ti.task_id) for ti in run.get_task_instances()}
    print("RETURNED", json.dumps(returned))
"""


# The real Airflow of test_standalone.py runs this DAG in every run.
@pytest.mark.long
def test_a_run_of_the_dag_from_the_table_to_the_plot(
    connected: ServerProcess, worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    output = tmp_path / "output"
    done = subprocess.run(
        [sys.executable, "-c", RUN_DAG, str(DAGS), str(output)],
        capture_output=True,
        text=True,
        check=False,
        # What lies beside the DAG is found as in `python dags/flights.py`.
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(DAGS)}
        | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = [line for line in done.stdout.splitlines() if line.startswith("RETURNED ")]
    first, second = (json.loads(line.removeprefix("RETURNED ")) for line in said)
    for returned in (first, second):
        # Two runs with run ids of their own: two batches.
        assert returned["enqueue"]["created"] == 300
        assert returned["wait"]["completed"] == 300
        assert returned["report"]["flights"] == 300
    assert first["enqueue"]["batch_id"] != second["enqueue"]["batch_id"]
    results = pq.read_table(output / "flights.parquet")
    assert results.num_rows == 300
    assert {"job_id", "status", "flight", "made_up_minutes"} <= set(results.column_names)
    assert (output / "flights.png").stat().st_size > 10_000
