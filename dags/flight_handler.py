"""The work on many flights at once: `spooled-pipelines work flights flight_handler:fly`.

Kept apart from the DAG, so that a worker loads neither Airflow nor pandas.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.worker import batch_handler

# What it takes of a row of the table.
FLIGHT = pa.schema(
    {
        **dict.fromkeys(("carrier", "origin", "dest", "time_hour"), pa.string()),
        "flight": pa.int64(),
        **dict.fromkeys(("dep_time", "dep_delay", "arr_delay", "air_time"), pa.float64()),
        "distance": pa.float64(),
    }
)


@batch_handler(max_rows=2_000, schema=FLIGHT)
def fly(flights: pa.RecordBatch) -> pa.RecordBatch:
    """Minutes that each flight made up in the air, and its speed over the ground in miles an hour.

    Made up: how much of its delay at departure was gone at arrival (negative: it lost time). A
    flight that never left is ``cancelled``; one that left and has no arrival or air time was
    ``diverted``. Neither has numbers.
    """
    left = flights["dep_time"].is_valid()
    has_flown = pc.greater(flights["air_time"].fill_null(0), 0)
    landed = pc.and_(left, pc.and_(flights["arr_delay"].is_valid(), has_flown))
    made_up = pc.subtract(flights["dep_delay"], flights["arr_delay"])
    speed = pc.divide(flights["distance"], pc.divide(flights["air_time"], 60))
    number = flights["flight"].cast(pa.string())
    return pa.record_batch(
        {
            "flight": pc.binary_join_element_wise(flights["carrier"], number, ""),
            "carrier": flights["carrier"],
            "route": pc.binary_join_element_wise(flights["origin"], flights["dest"], "-"),
            "scheduled": flights["time_hour"],
            "distance_miles": flights["distance"],
            "dep_delay_minutes": flights["dep_delay"],
            "made_up_minutes": pc.if_else(landed, made_up, None),
            "ground_speed_mph": pc.if_else(landed, pc.round(speed, 1), None),
            "outcome": pc.if_else(left, pc.if_else(landed, "landed", "diverted"), "cancelled"),
        }
    )
