"""A server that knows spooled.v1 alone: here, and twenty milliseconds away."""

from __future__ import annotations

from benchmarks.distance import away
from benchmarks.measure import Side, in_turns, show_ratio
from benchmarks.sdk import sdk_client, sdk_loop
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import connect

_ROWS = 10_000
_HERE_SAMPLE, _AWAY_SAMPLE = 1_000, 60
_RUNS = 3
_ROUND_TRIP_MS = 20


def plain() -> bool:
    """Compare the same server and clients without and with the distance."""
    with server("--no-batch-extension") as address, away(address, _ROUND_TRIP_MS) as far:
        here = _compare("a plain server on this machine", 2, address, _HERE_SAMPLE)
        there = _compare(f"a plain server {_ROUND_TRIP_MS} ms away", 50, far, _AWAY_SAMPLE)
    return here and there


def _compare(what: str, wanted: float, address: str, sample: int) -> bool:
    frame = flights(_ROWS)
    with connect(address, api_key=API_KEY) as client:
        sdk = sdk_client(address)
        client.enqueue_batch(frame.head(100), "warm", name=address)
        sdk_loop(sdk, frame.head(10), "warm")
        ours, theirs = in_turns(
            Side(
                "enqueue_batch",
                _ROWS,
                lambda run: client.enqueue_batch(frame, "ours", name=f"{address} {run}"),
            ),
            Side(
                "a loop over the SDK's enqueue",
                sample,
                lambda run: sdk_loop(sdk, frame.iloc[run * sample :].head(sample), "sdk"),
            ),
            runs=_RUNS,
        )
        sdk.close()
    return show_ratio(what, wanted, ours, theirs)
