"""`enqueue FILE QUEUE`: make each row of a file a job."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spooled_pipelines.cli.exit_codes import CommandInterruptedError, UsageError
from spooled_pipelines.cli.live_line import LiveLine
from spooled_pipelines.cli.options import RateLimit, Server, for_server
from spooled_pipelines.cli.output import print_json, print_pairs, print_plan, say
from spooled_pipelines.cli.stdin import STDIN, InputFormat, stdin_as_file
from spooled_pipelines.cli.telemetry import export_traces
from spooled_pipelines.durations import seconds_in

if TYPE_CHECKING:
    from spooled_pipelines import Batch
    from spooled_pipelines.batch.options.row_options import BatchOptions


_READING_SHOWN_AFTER_SECONDS = 0.3


@for_server
def enqueue(
    server: Server,
    file: Annotated[
        str,
        typer.Argument(
            help="Parquet, CSV, JSON or Arrow: a path or URI, a folder, a glob in quotes, or - for "
            "standard input; or a Delta or Iceberg table."
        ),
    ],
    queue: Annotated[str, typer.Argument(help="The queue's name.")],
    column: Annotated[
        list[str] | None,
        typer.Option(help="A column to read; repeat it. All columns if not given."),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(help="A column that identifies rows; repeat it for several."),
    ] = None,
    payload: Annotated[
        list[str] | None,
        typer.Option(help="A column of the payload; repeat it. All columns if not given."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="A name for the batch: the same name is the same batch.")
    ] = None,
    priority: Annotated[
        str | None, typer.Option(help="-100 to 100 for all rows, or a column's name.")
    ] = None,
    scheduled_at: Annotated[
        str | None, typer.Option(help="A time such as 2030-01-31T08:00:00Z, or a column's name.")
    ] = None,
    max_retries: Annotated[
        str | None, typer.Option(help="0 (none) to 100 for all rows, or a column's name.")
    ] = None,
    job_timeout: Annotated[
        str | None,
        typer.Option(help="Such as 90s or 5m for each job, or a column's name."),
    ] = None,
    expires_at: Annotated[
        str | None,
        typer.Option(
            help="What has not started by then is cancelled: a time such as 2030-01-31T08:00:00Z, "
            "or a column's name."
        ),
    ] = None,
    ttl: Annotated[
        str | None, typer.Option(help="The same, counted from now: 90s, 30m, 2h or 7d.")
    ] = None,
    retry_backoff: Annotated[
        str | None,
        typer.Option(
            help="The pause before each retry: 5s, or '5s, 30s, 2m', or 'exponential 5s cap 10m "
            "jitter 20%', or a column's name. 1, 2, 4 minutes and so on if not given."
        ),
    ] = None,
    weight: Annotated[
        int | None,
        typer.Option(
            help="How many jobs of this batch go for one of a batch of the same queue and priority "
            "with weight 1, when they take turns."
        ),
    ] = None,
    fair_by: Annotated[
        str | None,
        typer.Option(help="The column whose values take turns, in place of the batches."),
    ] = None,
    limit_by: Annotated[
        str | None,
        typer.Option(
            help="COLUMN=N: how many jobs of each value of a column may run at once, over all "
            "workers."
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Jobs that fall due each second, from --scheduled-at or now on."),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; repeat it.")] = None,
    on_rejected: Annotated[
        Literal["raise", "skip"],
        typer.Option(help="Rows that cannot be jobs: send nothing at all, or send the others."),
    ] = "raise",
    on_lossy: Annotated[
        Literal["raise", "string", "null", "round"],
        typer.Option(
            help="Values that JSON cannot hold exactly: refuse them, send text, leave them out, or "
            "send the nearest number."
        ),
    ] = "raise",
    on_changed: Annotated[
        Literal["keep", "raise", "replace"],
        typer.Option(
            help="Rows with the key of a job and another payload: the job keeps its own, the call "
            "fails, or a job that has not started gets the new one."
        ),
    ] = "keep",
    on_rerun: Annotated[
        Literal["resume", "retry_failed", "fresh"],
        typer.Option(
            help="If the batch exists: send what is missing, also retry its dead letters, or make "
            "every row a new job."
        ),
    ] = "resume",
    input_format: Annotated[
        InputFormat | None,
        typer.Option(
            "--format", help="The format of standard input, if its first bytes do not show it."
        ),
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(
            help="A file or URI for the outcome of each row: .parquet, .arrow, .csv or .jsonl; the "
            "first two are also written if rows are refused.",
        ),
    ] = None,
    max_outstanding: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The most jobs of the batch that are open at once; further rows wait for workers.",
        ),
    ] = None,
    separator: Annotated[
        str | None,
        typer.Option(help="CSV: the character between fields. A comma; a tab for .tsv files."),
    ] = None,
    quote: Annotated[
        str | None, typer.Option(help="CSV: the character around fields; '' for none.")
    ] = '"',
    encoding: Annotated[str, typer.Option(help="CSV: such as latin-1 or utf-16.")] = "utf-8",
    decimal_comma: Annotated[
        bool, typer.Option("--decimal-comma", help="CSV: numbers are written 12,50.")
    ] = False,
    null_text: Annotated[
        list[str] | None, typer.Option(help="CSV: a text that means no value; repeat it.")
    ] = None,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="CSV: the first line is a row already.")
    ] = False,
    column_name: Annotated[
        list[str] | None,
        typer.Option(help="CSV: the name of a column, instead of the header's; repeat it."),
    ] = None,
    skip_lines: Annotated[
        int, typer.Option(min=0, help="CSV: lines before the header that are not read.")
    ] = 0,
    column_type: Annotated[
        list[str] | None,
        typer.Option("--type", help="CSV: COLUMN=text, number or boolean; repeat it."),
    ] = None,
    all_text: Annotated[
        bool, typer.Option("--all-text", help="CSV: every column is text, as it is written.")
    ] = False,
    table_version: Annotated[
        str | None,
        typer.Option(help="Delta or Iceberg: a version, a snapshot's id, or a time with a zone."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show what would be done, and write nothing.")
    ] = False,
    rate_limit: RateLimit = None,
) -> None:
    """Make each row of FILE a job of QUEUE. The same command again enqueues nothing twice."""
    export_traces("spooled-enqueue")
    named = "://" in file or set("*?[") & set(file) or file == STDIN
    if not named and not Path(file).exists():
        raise UsageError(f"{file}: no such file or folder")
    readable = ledger is not None and _is_readable_ledger(ledger)
    options: BatchOptions = {
        "columns": column or None,
        "key": key or None,
        "payload": payload or None,
        "name": name,
        "priority": number_or_column(priority),
        "scheduled_at": time_or_column("--scheduled-at", scheduled_at),
        "max_retries": number_or_column(max_retries),
        "timeout_seconds": seconds_or_column(job_timeout),
        "retry_backoff": retry_backoff,
        "weight": weight,
        "fair_by": fair_by,
        "expires_at": time_or_column("--expires-at", expires_at),
        "ttl": ttl,
        "limit_by": None if limit_by is None else column_and_number(limit_by),
        "rate": rate,
        "tags": tags_of(tag or []),
        "on_rejected": on_rejected,
        "on_lossy": on_lossy,
        "on_changed": on_changed,
        "ledger": ledger if readable else None,
        "table_version": table_version,
        "text_options": {
            "separator": _escaped(separator),
            "quote": quote or None,
            "encoding": encoding,
            "decimal_comma": decimal_comma,
            "null_texts": null_text or None,
            "header": not no_header,
            "column_names": column_name or None,
            "skip_lines": skip_lines,
            "types": "text" if all_text else types_of(column_type or []),
        },
    }
    with (
        server.connect(rate_limit=rate_limit, creates=True) as client,
        stdin_as_file(file, input_format) as source,
        LiveLine() as line,
    ):
        progress = _Progress(line)
        if plan:
            planned = client.plan_batch(
                source, queue, on_rerun=on_rerun, on_read=progress.read, **options
            )
            line.clear()
            print_plan(planned, server.as_json)
            return
        try:
            batch = client.enqueue_batch(
                source,
                queue,
                on_rerun=on_rerun,
                on_read=progress.read,
                progress=progress.send,
                max_outstanding=max_outstanding,
                **options,
            )
        except KeyboardInterrupt:
            raise CommandInterruptedError(progress.interrupted()) from None
        line.end()
        if ledger is not None and not readable:
            from spooled_pipelines.batch.outcome.writers import write_stream

            write_stream(batch.ledger_reader(), ledger)
        if server.as_json:
            print_json(batch.to_dict())
        else:
            print_batch(batch)


class _Progress:
    """What a terminal shows while rows are read and sent."""

    def __init__(self, line: LiveLine) -> None:
        self._line = line
        self._began = time.monotonic()
        self._sent: tuple[int, int] | None = None
        self._read_from: tuple[float, int] | None = None

    def read(self, rows: int) -> None:
        """Show that so many rows were read and checked."""
        if self._read_from is None:
            self._read_from = time.monotonic(), rows
        began, before = self._read_from
        seconds = time.monotonic() - began
        # What is read in a moment needs no line.
        if self._line.live and seconds > _READING_SHOWN_AFTER_SECONDS:
            self._line.show(
                f"{rows:,} rows read and checked, {(rows - before) / seconds:,.0f} rows/s"
            )

    def send(self, sent: int, total: int) -> None:
        """Show that so many rows were acknowledged."""
        if self._sent is None:
            self._began = time.monotonic()
        self._sent = sent, total
        seconds = time.monotonic() - self._began
        rate = f", {sent / seconds:,.0f} rows/s" if sent and seconds > 1 else ""
        if self._line.live:
            self._line.show(f"{sent:,} of {total:,} rows sent{rate}")

    def interrupted(self) -> str:
        """Return what Ctrl-C leaves behind, and how to go on."""
        if self._sent is None:
            return "interrupted: nothing was sent; the same command starts over"
        sent, total = self._sent
        return (
            f"interrupted: {sent:,} of {total:,} rows are jobs, and they stay; the same command "
            "sends the others, and no row twice"
        )


def _is_readable_ledger(ledger: str) -> bool:
    """Return whether a batch can read its ledger back from a file: text loses column types."""
    from spooled_pipelines.batch.outcome.writers import parse_output_path
    from spooled_pipelines.batch.source.files import file_format_of
    from spooled_pipelines.batch.source.location import locate

    return file_format_of(locate(parse_output_path(ledger))) in ("parquet", "arrow")


def print_batch(batch: Batch) -> None:
    """Print the outcome of the rows, and the next command."""
    from spooled_pipelines.batch.display.batch_card import changed_text

    print_pairs(
        {
            "batch": batch.id,
            "queue": batch.queue_name,
            "rows": batch.rows,
            "created": batch.created,
            "duplicates": batch.duplicates,
            **(
                {"changed": changed_text(batch.changed, batch.replaced or 0)}
                if batch.changed
                else {}
            ),
            "rejected": batch.rejected,
            **({"retried": batch.retried} if batch.retried else {}),
        }
    )
    for note in batch.notes:
        say(note)
    # A server without the batch extension knows queues, but not batches.
    watchable = batch.client.batch_backend().keeps_batches
    following = f"watch {batch.id}" if watchable else f"stats {batch.queue_name}"
    say(f"next: spooled-pipelines {following}")


def number_or_column(text: str | None) -> int | str | None:
    """Return a number for a text such as `5`, else the text: the name of a column."""
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        return text


def seconds_or_column(text: str | None) -> int | str | None:
    """Return whole seconds for a text such as `90` or `5m`, else the text: the name of a column."""
    seconds = None if text is None else seconds_in(text)
    return text if seconds is None else round(seconds)


def time_or_column(option: str, text: str | None) -> datetime | str | None:
    """Return a datetime for an ISO 8601 time, else the text: the name of a column."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return text
    if time.tzinfo is None:
        raise UsageError(f"{option} must have a time zone, such as Z or +02:00; got {text!r}")
    return time


def column_and_number(text: str) -> tuple[str, int]:
    """Return `("customer", 2)` for `customer=2`; a column's name may hold an equals sign."""
    column, _, number = text.rpartition("=")
    if not (column and number.isdecimal()):
        raise UsageError(f"--limit-by must be COLUMN=N, such as customer=2; got {text!r}")
    return column, int(number)


def _escaped(character: str | None) -> str | None:
    # A shell has no easy way to write a tab.
    return "\t" if character in ("\\t", "tab") else character


def types_of(pairs: list[str]) -> dict[str, str] | None:
    """Return the types by column of COLUMN=TYPE pairs; a column's name may hold an equals sign."""
    types = {}
    for pair in pairs:
        column, equals, column_type = pair.rpartition("=")
        if not equals or not column:
            raise UsageError(f"--type must be COLUMN=TYPE, got {pair!r}")
        types[column] = column_type
    return types or None


def tags_of(pairs: list[str]) -> dict[str, str] | None:
    """Return `{"team": "data"}` for `["team=data"]`."""
    tags = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise UsageError(f"--tag must be NAME=VALUE, got {pair!r}")
        tags[name] = value
    return tags or None
