"""A DataFrame to durable jobs: this package against a loop over the official SDK's enqueue."""

from __future__ import annotations

from benchmarks.measure import Rate, Side, in_turns, show_ratio
from benchmarks.sdk import sdk_client, sdk_loop
from benchmarks.servers import API_KEY, server
from benchmarks.stages import stages_of
from benchmarks.tables import flights
from spooled_pipelines import connect

_ROWS = 100_000
_SAMPLE = 1_000
_RUNS = 5


def fanout() -> bool:
    """One server with the batch extension, both clients, in turns."""
    frame = flights(_ROWS)
    with server() as address, connect(address, api_key=API_KEY) as client:
        sdk = sdk_client(address)
        client.enqueue_batch(frame.head(100), "warm")
        sdk_loop(sdk, frame.head(100), "warm")
        ours, theirs = in_turns(
            Side(
                "enqueue_batch",
                _ROWS,
                lambda run: client.enqueue_batch(frame, "ours", name=str(run)),
            ),
            Side(
                "a loop over the SDK's enqueue",
                _SAMPLE,
                lambda run: sdk_loop(sdk, frame.iloc[run * _SAMPLE :].head(_SAMPLE), "sdk"),
            ),
            runs=_RUNS,
        )
        sdk.close()
    kept = show_ratio("DataFrame of six columns to durable jobs", 40, ours, theirs)
    _show_stages(ours)
    return kept


def _show_stages(ours: Rate) -> None:
    """How much of a batch's time each stage would take alone; the sum may be more than all."""
    whole = _ROWS / ours.per_second
    seconds, size = stages_of(flights(_ROWS))
    for stage, taken in seconds.items():
        print(f"{taken / whole:8.1%}    {stage}: {_ROWS / taken:,.0f} rows/s")
    rest = 1 - sum(seconds.values()) / whole
    print(f"{rest:8.1%}    wire, waiting, and what works side by side; {size / 1e6:.1f} MB sent")
