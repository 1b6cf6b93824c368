"""`serve`: the server, over SQLite or PostgreSQL."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from spooled_pipelines.cli.error_output import describe_os_error
from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.cli.options import AsJson
from spooled_pipelines.cli.telemetry import export_traces

Text = str | None
Number = int | None
Seconds = float | None
Switch = bool | None


def serve(
    as_json: AsJson = False,
    config: Annotated[
        Text,
        typer.Option(
            help="TOML file with these settings, under their names with underscores; or "
            "SPOOLED_SERVER_CONFIG. Flags go before variables, variables before the file."
        ),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config", help="Show what holds and where it is from, and do not serve."
        ),
    ] = False,
    listen: Annotated[
        Text, typer.Option(show_default="127.0.0.1:50051", help="HOST:PORT; port 0: a free one.")
    ] = None,
    store: Annotated[
        Text,
        typer.Option(
            show_default="sqlite:///spooled.db",
            help="Where jobs are kept: sqlite:///PATH, or postgresql://USER@HOST/DATABASE.",
        ),
    ] = None,
    store_file: Annotated[
        Text, typer.Option(help="A file that holds --store, for instance for its password.")
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            show_default=False,
            help="An admin key besides those of the store; repeat it for several. Or "
            "SPOOLED_API_KEY.",
        ),
    ] = None,
    api_key_file: Annotated[
        Text, typer.Option(help="A file that holds such keys, one a line.")
    ] = None,
    tls_cert: Annotated[
        Text, typer.Option(help="PEM file of the certificate; read again when it changes.")
    ] = None,
    tls_key: Annotated[Text, typer.Option(help="PEM file of its private key.")] = None,
    tls_client_ca: Annotated[
        Text, typer.Option(help="PEM file; clients must bring a certificate signed by it.")
    ] = None,
    wrong_keys_per_minute: Annotated[
        Number, typer.Option(show_default="20", help="How many wrong keys one peer may try.")
    ] = None,
    rate_limit: Annotated[
        Text,
        typer.Option(
            metavar="N",
            show_default="unlimited",
            help="Requests a second for each organization.",
        ),
    ] = None,
    daily_quota: Annotated[
        Text,
        typer.Option(
            metavar="N",
            show_default="unlimited",
            help="New jobs a day (of UTC) for each organization.",
        ),
    ] = None,
    max_message_bytes: Annotated[
        Number, typer.Option(show_default="16777216", help="The largest message that is taken.")
    ] = None,
    max_streams: Annotated[
        Number, typer.Option(show_default="10000", help="Calls at once on one connection.")
    ] = None,
    max_metadata_bytes: Annotated[
        Number, typer.Option(show_default="16384", help="The largest headers of a call.")
    ] = None,
    max_idle_seconds: Annotated[
        Seconds,
        typer.Option(show_default="900", help="A connection without calls is closed after this."),
    ] = None,
    keepalive_seconds: Annotated[
        Seconds,
        typer.Option(show_default="60", help="How long a silent peer is waited for before a ping."),
    ] = None,
    min_ping_seconds: Annotated[
        Seconds, typer.Option(show_default="5", help="Clients may ping once in this time.")
    ] = None,
    max_age_seconds: Annotated[
        Seconds,
        typer.Option(
            show_default="unlimited",
            help="Ask connections to begin anew after this, so that they spread over servers.",
        ),
    ] = None,
    require_lease_id: Annotated[
        Switch,
        typer.Option(
            "--require-lease-id/--no-require-lease-id",
            show_default=False,
            help="Settle only with lease_id, as the cloud.",
        ),
    ] = None,
    batch_extension: Annotated[
        Switch,
        typer.Option(
            "--batch-extension/--no-batch-extension",
            show_default=False,
            help="Speak the batch extension too (the default), or be a plain server.",
        ),
    ] = None,
    keep_settled: Annotated[
        Text,
        typer.Option(
            show_default="for ever",
            help="How long jobs that completed or were cancelled keep payload, result and tags: "
            "7d, 12h, 30m.",
        ),
    ] = None,
    keep_keys: Annotated[
        Text,
        typer.Option(
            show_default="for ever",
            help="How long such jobs, if in no batch, and their idempotency keys are kept at all.",
        ),
    ] = None,
    keep_batches: Annotated[
        Text,
        typer.Option(
            show_default="for ever",
            help="How long batches are kept after they settled, with statistics, jobs and keys.",
        ),
    ] = None,
    keep_dead_letters: Annotated[
        Text,
        typer.Option(
            show_default="for ever",
            help="How long dead letters are kept; a batch that has some stays as long as they.",
        ),
    ] = None,
    metrics: Annotated[
        Text, typer.Option(help="HOST:PORT where Prometheus finds /metrics (plain HTTP).")
    ] = None,
    http: Annotated[
        Text,
        typer.Option(
            help="HOST:PORT of the page for people, with /metrics, /healthz and /readyz; over TLS "
            "where --tls-cert is given."
        ),
    ] = None,
    http_frame_ancestors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            show_default=False,
            help="Whose pages may show this page in a frame, such as https://airflow.example.org; "
            "repeat it for several.",
        ),
    ] = None,
    log_format: Annotated[
        Text, typer.Option(show_default="text", help="text, or json for programs.")
    ] = None,
    log_level: Annotated[
        Text,
        typer.Option(
            show_default="warning", help="debug, info (a line for each call), warning or error."
        ),
    ] = None,
    grace_seconds: Annotated[
        Seconds,
        typer.Option(show_default="5", help="How long calls that run may take after SIGTERM."),
    ] = None,
) -> None:
    """Run a server until SIGTERM or Ctrl-C. Its keys: see `keys`; --api-key."""
    flags = {name: value for name, value in locals().items() if value is not None}
    del flags["print_config"], flags["as_json"]
    flags.pop("config", None)
    for several in ("api_key", "http_frame_ancestors"):
        if not flags.get(several):
            flags.pop(several, None)
    _serve(flags, config, print_config=print_config, as_json=as_json)


def _serve(
    flags: dict[str, object], path: str | None, *, print_config: bool, as_json: bool
) -> None:
    from spooled_pipelines.server.config.settings import NoKeysError
    from spooled_pipelines.server.core.errors import StoreUnavailableError
    from spooled_pipelines.server.serve import run
    from spooled_pipelines.server.telemetry.logs import configure_logging

    try:
        from spooled_pipelines.server.config.loading import load
    except ImportError as error:
        raise UsageError(
            "the server needs pydantic; pip install 'spooled-pipelines[server]'"
        ) from error

    try:
        loaded = load(flags, os.environ, path)
        if print_config:
            print("\n".join(loaded.lines()))
            return
        configure_logging(loaded.options.log_format, loaded.options.log_level)
        export_traces("spooled-server")
        run(
            loaded.settings,
            ready=lambda address: _say("listening on", "listening", address, as_json),
            page_ready=lambda url: _say("page at", "page", url, as_json),
        )
    except OSError as error:
        raise UsageError(describe_os_error(error)) from error
    except NoKeysError as error:
        raise UsageError(no_key()) from error
    except (StoreUnavailableError, ValueError) as error:
        # How the server, which knows nothing of our errors, says that it cannot begin.
        raise UsageError(str(error)) from error


def _say(words: str, name: str, where: str, as_json: bool) -> None:
    """Where it can be reached, as soon as it can."""
    print(json.dumps({name: where}) if as_json else f"{words} {where}", flush=True)


def no_key() -> str:
    """Why the server does not start, with a key to copy. It is new each time, and kept nowhere."""
    import secrets

    return (
        "the server needs an API key that its clients will use: make one in its store with "
        "`spooled-pipelines keys create`, give --api-key, or set "
        f"SPOOLED_API_KEY, for example: export SPOOLED_API_KEY=sp_live_{secrets.token_hex(16)}"
    )
