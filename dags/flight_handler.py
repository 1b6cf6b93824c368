"""The work on one flight: `spooled-pipelines work flights flight_handler:fly`.

Kept apart from the DAG, so that a worker loads neither Airflow nor pandas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spooled_pipelines import Job


def fly(job: Job) -> dict[str, Any]:
    """Handle a job whose payload is one row of the table."""
    return assess(job.payload)


def assess(flight: Mapping[str, Any]) -> dict[str, Any]:
    """Minutes that a flight made up in the air, and its speed over the ground in miles an hour.

    Made up: how much of its delay at departure was gone at arrival (negative: it lost time). A
    flight that never left is ``cancelled``; one that left and has no arrival or air time was
    ``diverted``. Neither has numbers.
    """
    result: dict[str, Any] = {
        "flight": f"{flight['carrier']}{flight['flight']}",
        "carrier": flight["carrier"],
        "route": f"{flight['origin']}-{flight['dest']}",
        "scheduled": flight["time_hour"],
        "distance_miles": flight["distance"],
        "dep_delay_minutes": flight["dep_delay"],
        "made_up_minutes": None,
        "ground_speed_mph": None,
    }
    if flight["dep_time"] is None:
        return {**result, "outcome": "cancelled"}
    if flight["arr_delay"] is None or not flight["air_time"]:
        return {**result, "outcome": "diverted"}
    return {
        **result,
        "outcome": "landed",
        "made_up_minutes": flight["dep_delay"] - flight["arr_delay"],
        "ground_speed_mph": round(flight["distance"] / (flight["air_time"] / 60), 1),
    }
