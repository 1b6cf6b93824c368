"""What tracing costs: where nobody uses OpenTelemetry, against the same code without any of it."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest import mock

from benchmarks.measure import Rate, rate, show_ratio
from benchmarks.servers import API_KEY, server
from spooled_pipelines import SpooledClient, connect
from spooled_pipelines.rpc import tracing as hooks
from spooled_pipelines.worker import Worker

_SINGLE = 1_000
_JOBS = 5_000
_RUNS = 5


def tracing() -> bool:
    """In a process of its own, since whoever imports OpenTelemetry does so for good."""
    command = [sys.executable, "-c", "from benchmarks.tracing import compare; compare()"]
    return subprocess.run(command, check=False).returncode == 0


def compare() -> None:
    """Prints the ratios; ends with status 1 if a promise is not kept."""
    with server() as address, connect(address, api_key=API_KEY) as client:
        _enqueued(client, -1)
        _worked(client, -1)
        # Taking turns: what else the machine does then meets both alike.
        times: dict[str, list[Rate]] = {}
        for _ in range(_RUNS):
            for name, work, rows in _WORK:
                for how, place in (("as it is", nullcontext()), ("without", _without())):
                    with place:
                        done = rate("", rows, partial(work, client), runs=1)
                    times.setdefault(f"{name}, {how}", []).append(done)
        kept = [
            show_ratio(
                f"{name}: not in use, against no tracing at all",
                0.95,
                _together(times, f"{name}, as it is"),
                _together(times, f"{name}, without"),
            )
            for name, _, _ in _WORK
        ]
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace import set_tracer_provider

        set_tracer_provider(TracerProvider())
        for name, work, rows in _WORK:
            used = rate(f"{name}, in use", rows, partial(work, client), _RUNS)
            show_ratio(
                f"{name}: in use, against no tracing at all",
                0,
                used,
                _together(times, f"{name}, without"),
            )
    raise SystemExit(not all(kept))


def _together(times: Mapping[str, list[Rate]], name: str) -> Rate:
    runs = times[name]
    return Rate(name, runs[0].rows, tuple(run.seconds[0] for run in runs))


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
        "traced": lambda handler: handler,
        "traced_async": lambda handler: handler,
    }
    with mock.patch.multiple(hooks, **nothing):
        yield
