"""What tracing costs where nobody uses OpenTelemetry, and where somebody does."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest import mock

from benchmarks.measure import Rate, rate, show_ratio
from benchmarks.servers import API_KEY, server
from spooled_pipelines import SpooledClient, connect
from spooled_pipelines.rpc import tracing as hooks
from spooled_pipelines.types import Job, JobStatus
from spooled_pipelines.worker import Worker

_SINGLE = 500
_JOBS = 3_000
_RUNS = 8
_ASKED = 200_000
_SHARE = 0.01


def tracing() -> bool:
    """In a process of its own, since an import of OpenTelemetry is for good."""
    command = [sys.executable, "-c", "from benchmarks.tracing import compare; compare()"]
    return subprocess.run(command, check=False).returncode == 0


def compare() -> None:
    """Print the ratios, and exit with status 1 if a promise is not kept."""
    with server() as address, connect(address, api_key=API_KEY) as client:
        kept = _costs_nothing(client)
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace import set_tracer_provider

        # No exporter: what the spans themselves cost.
        set_tracer_provider(TracerProvider())
        for name, work, rows in _WORK:
            _compared(client, name, work, rows)
    raise SystemExit(not kept)


def _costs_nothing(client: SpooledClient) -> bool:
    """Where it is not in use: how much of an enqueue is to ask whether it is."""
    started = time.perf_counter()
    for _ in range(_ASKED):
        with hooks.sending("singles"):
            hooks.with_context({})
            hooks.headers()
    asking = (time.perf_counter() - started) / _ASKED
    _enqueued(client, 0)
    best = min(
        rate("", _SINGLE, partial(_enqueued, client), runs=1).seconds[0] for _ in range(_RUNS)
    )
    share = asking / (best / _SINGLE)
    job = Job(id="j", queue_name="q", status=JobStatus.PROCESSING, payload={})
    kept = share <= _SHARE and isinstance(hooks.handling(job), nullcontext)
    print(
        f"{share:8.2%}  of an enqueue where it is not in use (wanted: {_SHARE:.0%} at most"
        f"{'' if kept else ', MISSED'}): {asking * 1e9:,.0f} ns of {best / _SINGLE * 1e6:,.0f} us"
    )
    print("            a worker's handler runs in no span", flush=True)
    return kept


def _compared(
    client: SpooledClient, name: str, work: Callable[[SpooledClient, int], None], rows: int
) -> None:
    """Return the best time of each, taken in turns: other load on the machine meets both alike."""
    ways: list[tuple[str, Callable[[], AbstractContextManager[None]]]] = [
        (f"{name}, in use", nullcontext),
        (f"{name}, without", _without),
    ]
    best = dict.fromkeys((way for way, _ in ways), float("inf"))
    for _ in range(_RUNS):
        for way, place in ways:
            with place():
                (seconds,) = rate(way, rows, partial(work, client), runs=1).seconds
            best[way] = min(best[way], seconds)
        ways.reverse()
    ours, theirs = (Rate(way, rows, (seconds,)) for way, seconds in best.items())
    show_ratio(f"{name}: in use, against no tracing at all", 0, ours, theirs)


def _enqueued(client: SpooledClient, run: int) -> None:
    for number in range(_SINGLE):
        client.enqueue("singles", {"run": run, "number": number})


def _worked(client: SpooledClient, _: int) -> None:
    client.enqueue_batch([{"n": n} for n in range(_JOBS)], "work", name=uuid.uuid4().hex)
    Worker(client, "work", _nothing, concurrency=4, stop_when_empty=True).run()


def _nothing(_: object) -> None:
    return None


_WORK: tuple[tuple[str, Callable[[SpooledClient, int], None], int], ...] = (
    ("enqueue", _enqueued, _SINGLE),
    ("batch and worker", _worked, _JOBS),
)


@contextmanager
def _without() -> Iterator[None]:
    """Every hook replaced by nothing."""
    nothing: dict[str, Any] = {
        "sending": lambda *_, **__: nullcontext(),
        "with_context": lambda tags: tags,
        "headers": lambda: (),
        "handling": lambda _: nullcontext(),
    }
    with mock.patch.multiple(hooks, **nothing):
        yield
