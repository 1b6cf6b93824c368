"""`jobs list|show|cancel|retry|discard`: jobs of any queue, and single ones by their ids."""

from __future__ import annotations

import json
from enum import Enum
from textwrap import indent
from typing import Annotated

import typer

from spooled_pipelines.cli.options import (
    Limit,
    OfOrganization,
    OfQueue,
    Server,
    Since,
    Until,
    for_server,
    job_id_of,
)
from spooled_pipelines.cli.output import print_json, print_pairs, print_record, say
from spooled_pipelines.cli.text_table import print_list
from spooled_pipelines.cli.times import age, moment_of, time_until
from spooled_pipelines.text import one_line
from spooled_pipelines.types import Job, JobAttempt, JobStatus

app = typer.Typer(
    help="List jobs; show, cancel, retry or discard single ones.", rich_markup_mode=None
)


class Status(str, Enum):
    """The values of --status."""

    PENDING = "pending"
    RETRYING = "retrying"
    SCHEDULED = "scheduled"
    PROCESSING = "processing"
    COMPLETED = "completed"
    DEADLETTER = "deadletter"
    CANCELLED = "cancelled"


JobId = Annotated[
    str, typer.Argument(help="The job's id, or its last digits as `list` shows them.")
]
JobIds = Annotated[
    list[str],
    typer.Argument(metavar="JOB", help="The jobs' ids, or their last digits as `list` shows them."),
]


@app.command("list")
@for_server
def list_(
    server: Server,
    queue: OfQueue = None,
    status: Annotated[
        list[Status] | None,
        typer.Option(
            help="Only jobs in this state; repeat it. `retrying`: they wait for their next try."
        ),
    ] = None,
    error: Annotated[
        str | None,
        typer.Option(help="Only jobs with this text in their error, or with this key or worker."),
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 20,
    organization: OfOrganization = None,
) -> None:
    """List jobs, the newest first, with the error and the next try of those that failed."""
    statuses = {one.value for one in status or () if one is not Status.RETRYING}
    # Jobs that wait for their next try are asked for by themselves.
    asked = [(statuses, False)] if statuses or not status else []
    asked += [(set(), True)] if status and Status.RETRYING in status else []
    times = {"since": moment_of("--since", since), "until": moment_of("--until", until)}
    with server.connect(organization=organization) as client:
        found = {
            job.id: job
            for states, waiting in asked
            for job in client.jobs(
                queue, statuses=sorted(states), waiting=waiting, text=error, limit=limit, **times
            )
        }
    newest = sorted(found.values(), key=lambda job: job.id, reverse=True)[:limit]
    print_list(
        newest,
        {
            "job": "id",
            "queue": "queue_name",
            "status": state_of,
            "retries": "retry_count",
            "age": lambda job: age(job.created_at),
            "due in": lambda job: time_until(job.due_at),
            "error": lambda job: (job.last_error or "").partition("\n")[0],
        },
        as_json=server.as_json,
        nothing="no such jobs"
        if queue or status or error or since or until
        else "no jobs yet; `spooled-pipelines enqueue FILE QUEUE` makes some of a file",
        limit=limit,
    )


@app.command()
@for_server
def show(server: Server, job: JobId, organization: OfOrganization = None) -> None:
    """Show JOB: its state, payload, result and error, and each attempt at it."""
    with server.connect(organization=organization) as client:
        job_id = job_id_of(client, job)
        found, attempts = client.get_job(job_id), client.attempts(job_id)
        listed = client.jobs(text=job_id, limit=1)
    due_at = listed[0].due_at if listed else None
    if server.as_json:
        print_json({**vars(found), "due_at": due_at, "attempts": attempts})
        return
    times = {
        name: "" if time is None else time.astimezone().isoformat(sep=" ", timespec="seconds")
        for name, time in (
            ("enqueued", found.created_at),
            ("scheduled for", found.scheduled_at),
            ("started", found.started_at),
            ("ended", found.completed_at),
            ("next try" if found.retry_count else "due", due_at),
        )
    }
    pairs = {
        "job": found.id,
        "queue": found.queue_name,
        "status": state_of(found) if due_at is None or not found.retry_count else "retrying",
        "key": found.idempotency_key,
        "priority": found.priority,
        "retries": f"{found.retry_count} of {found.max_retries}",
        **times,
        "worker": found.assigned_worker_id,
        "payload": json.dumps(found.payload, ensure_ascii=False),
        "result": None if found.result is None else json.dumps(found.result, ensure_ascii=False),
    }
    print_pairs({name: value for name, value in pairs.items() if value not in (None, "")})
    if found.last_error:
        say(f"error:\n{indent(found.last_error, '  ')}")
    for attempt in attempts:
        print_attempt(attempt)


@app.command()
@for_server
def cancel(server: Server, jobs: JobIds) -> None:
    """Cancel jobs that have not started."""
    with server.connect() as client:
        client.cancel_jobs(*[job_id_of(client, job) for job in jobs])
    print_record({"cancelled": len(jobs)}, server.as_json)


@app.command()
@for_server
def retry(server: Server, jobs: JobIds) -> None:
    """Put dead letters back into their queues, with all their retries."""
    with server.connect() as client:
        client.retry_jobs(*[job_id_of(client, job) for job in jobs])
    print_record({"retried": len(jobs)}, server.as_json)


@app.command()
@for_server
def discard(server: Server, jobs: JobIds) -> None:
    """Cancel dead letters, so that they no longer count as dead."""
    with server.connect() as client:
        client.discard_jobs(*[job_id_of(client, job) for job in jobs])
    print_record({"discarded": len(jobs)}, server.as_json)


def print_attempt(attempt: JobAttempt) -> None:
    """Print one line on an attempt: when, by which worker, for how long, and how it ended."""
    began = attempt.started_at.astimezone().isoformat(sep=" ", timespec="seconds")
    ended = "still runs"
    if attempt.ended_at is not None:
        took = (attempt.ended_at - attempt.started_at).total_seconds()
        how = (attempt.error or (attempt.ending or "ended").replace("_", " ")).splitlines()[0]
        ended = f"took {took:.1f} s: {one_line(how, 100)}"
    say(f"attempt {attempt.number}: {began}, {attempt.worker_id or 'no worker'}, {ended}")


def state_of(job: Job) -> str:
    """Return a job's status; `retrying` while it waits for its next try."""
    waits = job.status == JobStatus.PENDING and job.due_at is not None
    return "retrying" if waits else str(job.status)
