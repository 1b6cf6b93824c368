"""The summary that the demo ends with, and the part of a task's log that it shows on failure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def summary(
    first: Mapping[str, Any],
    again: Mapping[str, Any],
    found: Mapping[str, Any],
    work_seconds: float,
    all_seconds: float,
    dags: Path,
) -> str:
    """Return ten lines on what happened, from what the tasks of the two runs returned."""
    rate = first["rows"] / work_seconds
    lines = [
        f"What happened, in {all_seconds:.0f} s:",
        f"{first['rows']:,} flights became {first['created']:,} jobs: batch {first['batch_id']}.",
        f"A worker did them in {work_seconds:.1f} s ({rate:,.0f} a second), the sensor deferred.",
        "{landed:,} landed, {cancelled:,} were cancelled, {diverted:,} diverted.".format(**found),
        f"{found.get('finding', 'More cannot be said of them')}.",
        f"Fastest over the ground: {found.get('fastest', 'none')}.",
        "The same run again created {created:,} jobs, {duplicates:,} were there.".format(**again),
        f"The DAG and what the worker ran: {dags}/flights.py, flight_handler.py",
        f"Results: {found['parquet']}",
        f"Plot:    {found['plot']}",
    ]
    return "\n" + "\n".join(lines)


def task_log(logs: Path, task_id: str, lines: int = 30) -> str:
    """Return the last lines of a task's newest log, which Airflow writes as JSON."""
    newest = max(
        logs.glob(f"**/task_id={task_id}/**/*.log"),
        key=lambda path: path.stat().st_mtime,
        default=None,
    )
    if newest is None:
        return "(none was written)"
    return "\n".join(map(_readable, newest.read_text(errors="replace").splitlines()[-lines:]))


def _readable(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    # The outermost exception says it all; those behind it are for the log itself.
    causes = [
        f"{detail.get('exc_type')}: {detail.get('exc_value')}"
        for detail in (entry.get("error_detail") or [])[:1]
    ]
    return "  ".join([str(entry.get("level")), str(entry.get("event")), *causes])
