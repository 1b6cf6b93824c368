"""`sizing` says what a load takes, by a model that can be followed by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.sizing import Costs, Demand, required, sizing

SIMPLE = Costs(
    server_enqueue_us=100,
    server_work_us=300,
    server_call_us=500,
    server_notice_us=0,
    database_enqueue_us=200,
    database_work_us=200,
    database_call_us=1_000,
    job_bytes=500,
    wal_bytes=1_000,
    stream_kib=64,
    server_mib=100,
)


def test_the_model_can_be_followed_by_hand() -> None:
    # A thousand jobs a second: half a core of servers at 60 %, and one more; a core of PostgreSQL.
    found = required(Demand(86_400_000, payload_bytes=500, peak=1, keep_days=1), SIMPLE)
    assert found.jobs_per_second == pytest.approx(1_000)
    assert found.server_cores == pytest.approx(0.5)
    assert (found.servers, found.connections) == (2, 26)
    assert found.database_cores == pytest.approx(1.0)
    assert found.wal_mb_per_second == pytest.approx(2.0)
    assert found.disk_gib == pytest.approx(2 * 86_400_000 * 1_000 / 2**30)
    assert found.databases == 1
    assert found.limit.startswith("CPU of PostgreSQL (16 cores): 6%")


def test_what_one_database_cannot_do_takes_several() -> None:
    found = required(Demand(86_400_000_000, peak=1), SIMPLE, database_cores=16)
    assert found.databases == 63
    assert "CPU of PostgreSQL" in found.limit


def test_small_calls_cost_more_for_each_job() -> None:
    # 400 us of servers and 400 of PostgreSQL, and two calls of 500 and 1 000 us.
    found = required(Demand(86_400_000, peak=1, jobs_per_call=1), SIMPLE)
    assert found.server_cores == pytest.approx(1.4)
    assert found.database_cores == pytest.approx(2.4 / 0.6)


def test_each_server_hears_of_what_the_others_do() -> None:
    loud = replace(SIMPLE, server_notice_us=20)
    found = required(Demand(864_000_000, peak=1), loud, database_cores=100)
    # 10 000 x 480 us, and each of them is busy for 10 000 x 20 us with hearing.
    assert found.servers == pytest.approx(4.8 / (0.6 - 0.2) + 1)
    assert found.server_cores == pytest.approx(10_000 * (500 + 12 * 20) / 1e6)


@given(
    jobs=st.floats(1, 1e12),
    more=st.floats(1, 100),
    payload=st.floats(1, 1e6),
    peak=st.floats(1, 99),
)
def test_more_jobs_never_take_less(jobs: float, more: float, payload: float, peak: float) -> None:
    few, many = (
        required(Demand(count, payload_bytes=payload, peak=peak)) for count in (jobs, jobs * more)
    )
    for name in ("server_cores", "servers", "database_cores", "wal_mb_per_second", "disk_gib"):
        assert getattr(many, name) >= getattr(few, name)


def test_the_command_prints_it_for_people_and_programs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert sizing(["--jobs-per-day", "1e6"])
    assert "independent databases        1" in capsys.readouterr().out
    costs = tmp_path / "costs.json"
    costs.write_text(json.dumps({"database_work_us": 1e6}))
    arguments = ["--jobs-per-day", "1e6", "--costs", str(costs), "--json"]
    assert sizing(arguments)
    assert json.loads(capsys.readouterr().out)["databases"] == 5


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--jobs-per-day", "0"], "jobs_per_day must be a number above 0, got 0.0"),
        (["--jobs-per-day", "1", "--peak", "0.5"], "peak must be 1 or more, got 0.5"),
        (
            ["--jobs-per-day", "1", "--jobs-per-call", "0.5"],
            "jobs_per_call must be 1 or more, got 0.5",
        ),
        (["--jobs-per-day", "1", "--costs", "nowhere.json"], "nowhere.json"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not sizing(arguments)
    assert why in capsys.readouterr().err
