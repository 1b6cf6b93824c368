"""`work QUEUE module:function`: run a function on each job of a queue."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from spooled_pipelines.cli.error_output import print_error
from spooled_pipelines.cli.exit_codes import INTERRUPTED, OTHER, UsageError
from spooled_pipelines.cli.live_line import CLEAR_LINE, LiveLine
from spooled_pipelines.cli.options import Server, duration, for_server
from spooled_pipelines.cli.output import print_json
from spooled_pipelines.cli.telemetry import export_traces
from spooled_pipelines.text import plain

if TYPE_CHECKING:
    from spooled_pipelines.worker import WorkerReport

# How long the server may take to hear of a death; the next worker waits for that.
_REPORT_SECONDS = 5.0


@for_server
def work(
    server: Server,
    queue: Annotated[
        str, typer.Argument(help="The queue's name; or several with weights: orders=3,mail=1.")
    ],
    handler: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION", help="The function takes a job, its payload, or rows."
        ),
    ],
    concurrency: Annotated[int, typer.Option(help="Handlers that run at once.")] = 8,
    executor: Annotated[
        Literal["thread", "process"],
        typer.Option(help="Where plain functions run: thread or process."),
    ] = "thread",
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=256,
            show_default="this process",
            help="Worker processes, each with --concurrency handlers; one that dies is restarted.",
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="The most jobs that each worker starts a second.")
    ] = None,
    lease_seconds: Annotated[
        float, duration("How long the jobs of a dead worker wait for another (5s to 1h).", "30s")
    ] = 30.0,
    grace_seconds: Annotated[
        float, duration("How long stopping waits for running jobs.", "25s")
    ] = 25.0,
    worker_id: Annotated[str | None, typer.Option(help="The worker's name.")] = None,
    http: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of /live, /ready, /metrics; other workers: the next ports."),
    ] = None,
    health_file: Annotated[
        Path | None,
        typer.Option(
            help="A file that says each second: ready, or why not. Other workers: FILE-2…"
        ),
    ] = None,
    drain: Annotated[bool, typer.Option("--drain", help="End when the queue is empty.")] = False,
    reload: Annotated[
        bool, typer.Option("--reload", help="Restart when a Python file in this folder changes.")
    ] = False,
    log_format: Annotated[
        Literal["text", "json"], typer.Option(help="text, or json for programs.")
    ] = "text",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log each job.")] = False,
) -> None:
    """Run MODULE:FUNCTION on each job of QUEUE until SIGTERM or Ctrl-C, then finish what runs."""
    from spooled_pipelines.cli.supervisor import supervisor_link

    link = supervisor_link()
    number = 0 if link is None else link.number
    queues = parse_queues(queue)
    http = None if http is None else _next_port(http, number)
    if link is None and (processes is not None or reload):
        report_death = partial(_report_death, server)
        raise typer.Exit(_work_in_processes(processes or 1, report_death, reload, server.as_json))
    export_traces("spooled-worker")
    function = load(handler)

    from spooled_pipelines.worker import Worker

    supervised = link is not None
    with server.connect(creates=True) as client, LiveLine() as line:
        shows_line = line.live and not supervised
        _configure_logging(verbose, log_format, clears_line=line.live and supervised)
        worker = Worker(
            client,
            queues,
            function,
            concurrency=concurrency,
            executor=executor,
            rate=rate,
            lease_seconds=round(lease_seconds),
            grace_seconds=grace_seconds,
            worker_id=None if worker_id is None else _numbered(worker_id, number),
            http=http,
            health_file=None if health_file is None else _numbered(health_file, number),
            stop_when_empty=drain,
            running_log=None if link is None else link.running_log,
            on_settled=(lambda _: line.show(describe(worker.report))) if shows_line else None,
        )
        worker_id = worker.settings.worker_id
        with (
            link.reporting(worker_id, lambda: worker.report, worker.stop) if link else nullcontext()
        ):
            report = worker.run()
        if shows_line and not server.as_json:
            line.show(describe(report))
    if not supervised and (server.as_json or not shows_line):
        _print_report(report, server.as_json)
    if worker.aborted:
        raise typer.Exit(INTERRUPTED)
    if report.abandoned:
        print_error(
            f"{report.abandoned} jobs did not finish within the grace time; "
            "other workers get them when their leases have run out"
        )
        raise typer.Exit(OTHER)


def parse_queues(text: str) -> dict[str, float]:
    """Return the weights by queue of `orders`, or of `orders=3,mail=1`."""
    queues: dict[str, float] = {}
    for part in text.split(","):
        name, equals, weight = part.strip().partition("=")
        try:
            number = float(weight) if equals else 1.0
        except ValueError:
            raise UsageError(
                f"the weight of {name} must be a number, such as {name}=2; got {weight!r}"
            ) from None
        if name in queues:
            raise UsageError(f"queue {name!r} is named twice")
        queues[name] = number
    return queues


def _report_death(server: Server, worker_id: str, code: int, running: list[str] | None) -> None:
    """Tell the server, so that what the worker held need not wait for its leases to run out."""
    from spooled_pipelines.worker.handlers.processes import describe_exit

    error = f"WorkerDied: the worker's process {describe_exit(code)}"
    try:
        with server.connect() as client:
            client.report_worker_death(
                worker_id, code, error, running_job_ids=running, timeout=_REPORT_SECONDS
            )
    except Exception as failure:  # noqa: BLE001 - whatever it is, the workers go on
        print_error(f"the server was not told, and waits for its leases to run out: {failure}")


def _work_in_processes(
    processes: int,
    report_death: Callable[[str, int, list[str] | None], None],
    reload: bool,
    as_json: bool,
) -> int:
    from spooled_pipelines.cli.supervisor import Supervisor, reload_on_change
    from spooled_pipelines.worker import WorkerReport

    with LiveLine() as line:

        def show(counts: Counter[str]) -> None:
            if line.live:
                line.show(describe(WorkerReport(**counts)))

        supervisor = Supervisor(processes, show, report_death, reloads=reload)
        if reload:
            reload_on_change(supervisor, Path.cwd())
        code = supervisor.run()
        shows_line = line.live and not as_json
        if shows_line:
            show(supervisor.counts())
    if not shows_line:
        _print_report(WorkerReport(**supervisor.counts()), as_json)
    return code


def _print_report(report: WorkerReport, as_json: bool) -> None:
    if as_json:
        print_json(report)
    else:
        print(describe(report), file=sys.stderr)


def _numbered(name: str | Path, number: int) -> str:
    return str(name) if number == 0 else f"{name}-{number + 1}"


def _next_port(address: str, number: int) -> str:
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise UsageError(f"--http must be HOST:PORT, got {address!r}")
    # Port 0 is any free one, for each.
    return f"{host}:{int(port) + number if int(port) else 0}"


def describe(report: WorkerReport) -> str:
    """Return one line on what was done."""
    parts = [f"{report.completed:,} completed"]
    parts += [
        f"{count:,} {name}"
        for name, count in (
            ("to be retried", report.retrying),
            ("dead", report.deadletter),
            ("lost their lease", report.lost),
            ("given back", report.returned),
            ("abandoned", report.abandoned),
        )
        if count
    ]
    return ", ".join(parts)


def load(spec: str) -> Callable[[Any], Any]:
    """Return the function that MODULE:FUNCTION names, also from the current folder."""
    import importlib
    import operator

    module_name, colon, path = spec.partition(":")
    if not (module_name and colon and path):
        raise UsageError(
            f"the handler must be MODULE:FUNCTION, such as scoring:score; got {spec!r}"
        )
    sys.path.insert(0, "")
    try:
        named: Any = importlib.import_module(module_name)
    except Exception as error:
        # The user's module may fail in any way while it is imported.
        raise UsageError(f"cannot import {module_name}: {type(error).__name__}: {error}") from error
    try:
        named = operator.attrgetter(path)(named)
    except AttributeError:
        raise UsageError(f"{module_name} has no {path}") from None
    if not callable(named):
        raise UsageError(f"{spec} must be a function of a job, got {type(named).__name__}")
    function: Callable[[Any], Any] = named
    return function


def _configure_logging(verbose: bool, log_format: str, *, clears_line: bool) -> None:
    import logging

    from spooled_pipelines.worker.log import JsonFormatter

    class ToStderr(logging.Handler):
        """A handler that writes to the standard error of the moment, which a live line replaces."""

        # In a supervised process, the line is the supervisor's.
        prefix = CLEAR_LINE if clears_line else ""

        def emit(self, record: logging.LogRecord) -> None:
            try:
                print(self.prefix + plain(self.format(record)), file=sys.stderr, flush=True)
            except Exception:  # noqa: BLE001 - as handlers do: a log line must not end the work
                self.handleError(record)

    handler = ToStderr()
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JsonFormatter() if log_format == "json" else text)
    logging.basicConfig(handlers=[handler])
    # The layers below the worker log less: their errors are printed once, at the end.
    logging.getLogger("spooled_pipelines.worker").setLevel(logging.INFO)
    if verbose:
        logging.getLogger("spooled_pipelines").setLevel(logging.DEBUG)
        logging.getLogger("spooled_pipelines.worker").setLevel(logging.DEBUG)
