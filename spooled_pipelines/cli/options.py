"""Arguments and options that several commands share.

The environment is read by `connect`, so that an error can say where a wrong key came from.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from spooled_pipelines.cli.exit_codes import UsageError

if TYPE_CHECKING:
    from spooled_pipelines import Batch
    from spooled_pipelines.client import SpooledClient
    from spooled_pipelines.types import Queue as QueueState

T = TypeVar("T")


def _profile_names(incomplete: str) -> list[str]:
    """Return the profiles that a shell offers for --profile."""
    from spooled_pipelines.cli.profiles import load_profiles

    try:
        return [name for name in load_profiles().named if name.startswith(incomplete)]
    except UsageError:
        return []


RateLimit = Annotated[
    float | None,
    typer.Option("--rate-limit", help="The most calls a second, as the server's plan allows."),
]
Queue = Annotated[str, typer.Argument(help="The queue's name.")]
BatchId = Annotated[
    str, typer.Argument(help="The batch's id, as much of it as is unique, or its name.")
]
OfQueue = Annotated[str | None, typer.Option("--queue", help="Only those of this queue.")]
Limit = Annotated[int, typer.Option(min=1, help="The most to list.")]
Since = Annotated[
    str | None,
    typer.Option(help="From this time on: 2030-01-31T08:00Z, or how long ago, such as 2h."),
]
Until = Annotated[str | None, typer.Option(help="Before this time, written as for --since.")]
ErrorContains = Annotated[
    str | None,
    typer.Option("--error-contains", help="Only jobs whose error contains this text."),
]
OfOrganization = Annotated[
    str | None,
    typer.Option(
        "--organization",
        show_default="the key's",
        help="Another organization, which takes a key that the server was started with.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@dataclass(frozen=True)
class Server:
    """The server that a command is for, as its options name it, and how the command prints."""

    address: Annotated[
        str | None,
        typer.Option(
            show_default="SPOOLED_GRPC_ADDRESS, else the profile's, else localhost:50051 with a "
            "key, else embedded:spooled.db",
            help="HOST:PORT, unix:/PATH, or embedded:PATH for that file with no server to start.",
        ),
    ] = None
    api_key: Annotated[
        str | None,
        typer.Option(
            show_default="the profile's, else SPOOLED_API_KEY",
            help="Better in the environment: other users of this machine can see command lines.",
        ),
    ] = None
    profile: Annotated[
        str | None,
        typer.Option(
            show_default="SPOOLED_PROFILE, else the file's default",
            help="A server that the configuration file names; see `profiles`.",
            autocompletion=_profile_names,
        ),
    ] = None
    as_json: AsJson = False

    def connect(
        self,
        *,
        rate_limit: float | None = None,
        creates: bool = False,
        organization: str | None = None,
    ) -> SpooledClient:
        """Return a client, to be used in a `with`.

        `creates`: if no server is named, the file ./spooled.db is made where it is missing.
        """
        from spooled_pipelines import connect
        from spooled_pipelines.cli.profiles import chosen_profile

        named = chosen_profile(self.profile, address=self.address or None)
        api_key, tls = self.api_key or None, None
        source = "--api-key" if api_key else None
        if named is not None:
            api_key, tls = api_key or named.api_key(), named.tls_settings()
            source = source or (named.api_key_source if api_key else None)
        address = named.address if named else self.address or _default_address(api_key, creates)
        client = connect(address, api_key=api_key, tls=tls, rate_limit=rate_limit)
        if source is None and organization is None:
            return client
        # Nothing was opened yet.
        with client:
            source = source or client.settings.api_key_source
            settings = replace(client.settings, api_key_source=source, organization=organization)
        return type(client)(settings)


def for_server(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command the options of a `Server`, which is its first parameter."""
    shared = inspect.signature(Server, eval_str=True).parameters

    @wraps(command)
    def run(**options: Any) -> T:
        server = Server(**{name: options.pop(name) for name in shared if name in options})
        return command(server, **options)

    _, *others = inspect.signature(command, eval_str=True).parameters.values()
    set_parameters(run, [*others, *shared.values()])
    return run


def set_parameters(command: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> None:
    """Give a command the parameters that typer is to read, each by its name."""
    kind = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.Signature([each.replace(kind=kind) for each in parameters])
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}


def _default_address(api_key: str | None, creates: bool) -> str:
    """Return where a command goes that names no server; say so if it is a file of this folder."""
    from pathlib import Path

    from spooled_pipelines.cli.error_output import print_error
    from spooled_pipelines.client.settings import DEFAULT_STORE, default_address

    address, note = default_address(api_key)
    if note:
        if not creates and not Path(DEFAULT_STORE).exists():
            raise UsageError(
                f"no server is named, and this folder has no {DEFAULT_STORE}: give --address, or "
                "set SPOOLED_GRPC_ADDRESS and SPOOLED_API_KEY"
            )
        print_error(f"no server is named; using {address.removeprefix('embedded:')}")
    return address


def duration(help_text: str, default: str | None = None) -> Any:
    """Return an option that is written as a duration, and is a number of seconds."""
    return typer.Option(
        parser=_seconds, metavar="DURATION", show_default=default or True, help=help_text
    )


def _seconds(text: str) -> float:
    from spooled_pipelines.durations import seconds_in

    seconds = seconds_in(str(text))
    if seconds is None:
        raise typer.BadParameter(f"must be a duration such as 30s, 1m or 2h, got {text!r}")
    return seconds


# As many batches as are looked through for the beginning of an id.
_BATCHES = 1_000
_WHOLE_BATCH_ID = re.compile(r"b_[0-9a-f]{32}")
_JOB_NUMBER = re.compile(r"…?([0-9a-f]{1,12})")


def batch_of(client: SpooledClient, text: str) -> Batch:
    """Return the batch of this id, of the name, or of the id that begins so.

    Raises:
        UsageError: several have it, or it is a queue's.
    """
    begin = text.rstrip("…")
    if _WHOLE_BATCH_ID.fullmatch(text) or not client.batch_backend().keeps_batches:
        return client.batch(text)
    found = [
        batch.batch_id
        for batch in client.batches(text=begin)
        if begin in (batch.batch_id, batch.name)
    ]
    if not found and begin.startswith("b_"):
        recent = client.batches(limit=_BATCHES)
        found = [batch.batch_id for batch in recent if batch.batch_id.startswith(begin)]
    if begin in found:
        found = [begin]
    if len(found) > 1:
        raise UsageError(f"{len(found)} batches are called {text!r}: {', '.join(found[:5])}")
    if not found and text in [queue.name for queue in client.queues()]:
        listed = f"spooled-pipelines batches list --queue {text}"
        raise UsageError(f"{text!r} is a queue; `{listed}` names its batches")
    return client.batch(found[0] if found else text)


def queue_of(client: SpooledClient, name: str) -> QueueState:
    """Return a queue that there is.

    Raises:
        UsageError: there is none of this name; the message names one that is written alike.
    """
    found = client.queues(name)
    if found:
        return found[0]
    from difflib import get_close_matches

    known = [each.name for each in client.queues()]
    alike = get_close_matches(name, known, 1)
    meant = f": did you mean {alike[0]}?" if alike else "; it begins with its first job"
    if _WHOLE_BATCH_ID.fullmatch(name):
        meant = f"; `spooled-pipelines watch {name}` shows a batch"
    raise UsageError(f"there is no queue {name!r}{meant}")


def job_id_of(client: SpooledClient, text: str) -> str:
    """Return a job's whole id; of a shortened one the beginning is that of any other job."""
    last = _JOB_NUMBER.fullmatch(text)
    if last is None:
        return text
    newest = client.jobs(limit=1)
    return newest[0].id[:-12] + last[1].rjust(12, "0") if newest else text
