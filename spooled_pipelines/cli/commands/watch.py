"""`watch BATCH`: follow a batch until each of its jobs is settled."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spooled_pipelines.batch.display.html_card import duration as shown_duration
from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.cli.live_line import LiveLine
from spooled_pipelines.cli.options import BatchId, Server, batch_of, duration, for_server
from spooled_pipelines.cli.output import print_json
from spooled_pipelines.cli.times import time_until
from spooled_pipelines.text import one_line, percent

if TYPE_CHECKING:
    from spooled_pipelines.batch.display.progress import ThroughputEstimator
    from spooled_pipelines.types import BatchStats


@for_server
def watch(
    server: Server,
    batch: BatchId,
    max_failed: Annotated[
        str, typer.Option(help="How many jobs may fail: a number, or a share such as 0.05 or 5%.")
    ] = "0",
    timeout: Annotated[float | None, duration("Give up after this time, such as 30s.")] = None,
    allow_expired: Annotated[
        bool,
        typer.Option("--allow-expired", help="Jobs that did not start in time are not failures."),
    ] = False,
    on_breach: Annotated[
        Literal["raise", "stop"],
        typer.Option(
            help="Once more failed than --max-failed: end with exit code 1, or also cancel what "
            "has not started."
        ),
    ] = "raise",
) -> None:
    """Follow BATCH until all its jobs are settled; exit code 1 if too many of them failed."""
    allowed = allowed_failures(max_failed)
    from spooled_pipelines.batch.display.progress import ThroughputEstimator

    throughput = ThroughputEstimator()
    with server.connect() as client, LiveLine() as line:

        def show(stats: BatchStats) -> None:
            throughput.update(time.monotonic(), stats.completed + stats.failed)
            if server.as_json:
                print_json(stats)
            else:
                line.show(describe(stats, throughput))

        batch_of(client, batch).wait(
            timeout=timeout,
            max_failed=allowed,
            on_progress=show,
            on_breach=on_breach,
            allow_expired=allow_expired,
        )


def describe(stats: BatchStats, throughput: ThroughputEstimator) -> str:
    """Return one line on where a batch stands, and how fast it is."""
    done = stats.completed + stats.failed
    share = f" ({percent(done, stats.total)})" if stats.total else ""
    parts = [f"{done:,} of {stats.total:,} done{share}"]
    parts += [
        f"{count:,} {name}"
        for name, count in (
            ("failed", stats.failed),
            ("running", stats.processing),
            ("waiting", stats.pending - stats.waiting),
            ("to be retried", stats.waiting),
            ("due later", stats.scheduled),
        )
        if count
    ]
    if not stats.settled and (rate := throughput.rate()):
        parts.append(f"{rate:,.1f} jobs/s")
        # What is due later does not end at that rate.
        if stats.open > stats.waiting + stats.scheduled:
            parts.append(f"{shown_duration(stats.open / rate)} left")
    if not stats.sealed:
        parts.append("not sealed yet")
    parts += [
        f"next try in {time_until(waiting.next_at)}: {one_line(waiting.error, 80)}"
        for waiting in stats.waiting_errors[:1]
    ]
    # What waits for its retry is said already.
    if not stats.waiting_errors:
        parts += [stall.message for stall in stats.stalls[:1]]
    return ", ".join(parts)


def allowed_failures(text: str) -> int | float:
    """Return the limit that the text says: `3` is a count, `0.05` and `5%` are shares."""
    try:
        if text.endswith("%"):
            allowed: int | float = float(text[:-1]) / 100
        else:
            allowed = float(text) if "." in text else int(text)
    except ValueError:
        allowed = -1
    if allowed < 0 or (isinstance(allowed, float) and not allowed <= 1):
        raise UsageError(
            f"--max-failed must be a number of jobs or a share, such as 10 or 5%; got {text!r}"
        )
    return allowed
