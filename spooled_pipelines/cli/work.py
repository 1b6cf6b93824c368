"""`work QUEUE module:function`: runs a function on each job of a queue."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spooled_pipelines.cli.codes import INTERRUPTED, OTHER, UsageError, complain
from spooled_pipelines.cli.options import Address, ApiKey, connected
from spooled_pipelines.cli.output import LiveLine
from spooled_pipelines.cli.traces import export_traces

if TYPE_CHECKING:
    from spooled_pipelines.worker import WorkerReport


def work(
    queue: Annotated[str, typer.Argument(help="The queue's name.")],
    handler: Annotated[str, typer.Argument(help="MODULE:FUNCTION; the function takes a job.")],
    concurrency: Annotated[int, typer.Option(help="Handlers that run at once.")] = 8,
    lease_seconds: Annotated[
        int, typer.Option(help="How long a job waits for a worker that died (5 to 3600).")
    ] = 30,
    grace_seconds: Annotated[
        float, typer.Option(help="How long stopping waits for what runs.")
    ] = 25.0,
    worker_id: Annotated[str | None, typer.Option(help="The worker's name.")] = None,
    drain: Annotated[bool, typer.Option("--drain", help="End when the queue is empty.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log each job.")] = False,
    address: Address = None,
    api_key: ApiKey = None,
) -> None:
    """Run MODULE:FUNCTION on each job of QUEUE until SIGTERM or Ctrl-C, then finish what runs."""
    export_traces("spooled-worker")
    function = load(handler)
    _log(verbose)

    from spooled_pipelines.worker import Worker

    with connected(address, api_key) as client, LiveLine() as line:
        worker = Worker(
            client,
            queue,
            function,
            concurrency=concurrency,
            lease_seconds=lease_seconds,
            grace_seconds=grace_seconds,
            worker_id=worker_id,
            stop_when_empty=drain,
            on_settled=(lambda _: line.show(describe(worker.report))) if line.live else None,
        )
        report = worker.run()
        line.end()
    print(describe(report), file=sys.stderr)
    if worker.gave_up:
        raise typer.Exit(INTERRUPTED)
    if report.abandoned:
        complain(
            f"{report.abandoned} jobs did not finish within the grace time; "
            "other workers get them when their leases have run out"
        )
        raise typer.Exit(OTHER)


def describe(report: WorkerReport) -> str:
    """What was done, on one line."""
    parts = [f"{report.completed:,} completed"]
    parts += [
        f"{count:,} {name}"
        for name, count in (
            ("to be retried", report.retrying),
            ("dead", report.deadletter),
            ("lost their lease", report.lost),
            ("given up", report.abandoned),
        )
        if count
    ]
    return ", ".join(parts)


def load(spec: str) -> Callable[[Any], Any]:
    """The function that MODULE:FUNCTION names; modules of the current folder are found too."""
    import importlib
    import operator

    module_name, colon, path = spec.partition(":")
    if not (module_name and colon and path):
        raise UsageError(f"{spec!r} should be MODULE:FUNCTION, such as scoring:score")
    sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        # The boundary to somebody's module, which may fail in any way while it is imported.
        raise UsageError(f"cannot import {module_name}: {type(error).__name__}: {error}") from error
    try:
        found = operator.attrgetter(path)(found)
    except AttributeError:
        raise UsageError(f"{module_name} has no {path}") from None
    if not callable(found):
        raise UsageError(f"{spec} is a {type(found).__name__}, and should be a function of a job")
    function: Callable[[Any], Any] = found
    return function


def _log(verbose: bool) -> None:
    import logging

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    # Less of what lies below the worker: its errors are told once, at the end.
    logging.getLogger("spooled_pipelines.worker").setLevel(logging.INFO)
    if verbose:
        logging.getLogger("spooled_pipelines").setLevel(logging.DEBUG)
        logging.getLogger("spooled_pipelines.worker").setLevel(logging.DEBUG)
