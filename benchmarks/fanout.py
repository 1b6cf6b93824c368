"""A DataFrame to durable jobs: this package against a loop over the official SDK's enqueue."""

from __future__ import annotations

import time

from benchmarks.measure import Rate, rate, show_ratio
from benchmarks.sdk import sdk_client, sdk_loop
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import connect
from spooled_pipelines.batch.prepare import Options, prepare

_ROWS = 100_000
_SAMPLE = 2_000
_PLAIN_ROWS = 5_000


def with_extension() -> bool:
    """One server with the batch extension, both clients."""
    frame = flights(_ROWS)
    with server() as address, connect(address, api_key=API_KEY) as client:
        sdk = sdk_client(address)
        client.enqueue_batch(frame.head(100), "warm")
        sdk_loop(sdk, frame.head(100), "warm")
        theirs = rate(
            "a loop over the SDK's enqueue",
            _SAMPLE,
            lambda run: sdk_loop(sdk, frame.iloc[run * _SAMPLE : (run + 1) * _SAMPLE], "sdk"),
        )
        ours = rate(
            "enqueue_batch", _ROWS, lambda run: client.enqueue_batch(frame, "ours", name=str(run))
        )
        sdk.close()
    kept = show_ratio("DataFrame of six columns to durable jobs", 20, ours, theirs)
    _show_stages(ours)
    return kept


def without_extension() -> bool:
    """A server that knows spooled.v1 alone."""
    frame = flights(_PLAIN_ROWS)
    with (
        server("--no-batch-extension") as address,
        connect(address, api_key=API_KEY) as client,
    ):
        sdk = sdk_client(address)
        client.enqueue_batch(frame.head(100), "warm")
        sdk_loop(sdk, frame.head(100), "warm")
        theirs = rate(
            "a loop over the SDK's enqueue",
            _SAMPLE,
            lambda run: sdk_loop(sdk, frame.head(_SAMPLE), f"sdk-{run}"),
        )
        ours = rate(
            "enqueue_batch",
            _PLAIN_ROWS,
            lambda run: client.enqueue_batch(frame, "ours", name=str(run)),
        )
        sdk.close()
    return show_ratio("the same, server without the batch extension", 2, ours, theirs)


def _show_stages(ours: Rate) -> None:
    """How much of a batch's time the client's own work is."""
    frame = flights(_ROWS)
    started = time.perf_counter()
    prepared = prepare(frame, "q", Options())
    checked = time.perf_counter()
    size = sum(len(chunk.message()) for chunk in prepared.chunks())
    packed = time.perf_counter()
    prepared.close()
    whole = _ROWS / ours.per_second
    stages = {
        "read, check, encode, hash (before anything is sent)": checked - started,
        "pack into chunks (while the server stores)": packed - checked,
    }
    for stage, seconds in stages.items():
        print(f"{seconds / whole:8.1%}    {stage}: {_ROWS / seconds:,.0f} rows/s")
    rest = whole - sum(stages.values())
    print(
        f"{rest / whole:8.1%}    wire, server, store, ledger; {size / 1e6:.1f} MB sent", flush=True
    )
