"""`serve`: the server, over SQLite or PostgreSQL."""

from __future__ import annotations

from typing import Annotated

import typer

from spooled_pipelines.cli.codes import UsageError, describe_os_error


def serve(
    listen: Annotated[str, typer.Option(help="HOST:PORT; port 0 takes a free one.")] = (
        "127.0.0.1:50051"
    ),
    store: Annotated[
        str,
        typer.Option(
            help="Where jobs are kept: sqlite:///PATH, or postgresql://USER@HOST/DATABASE."
        ),
    ] = ("sqlite:///spooled.db"),
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            envvar="SPOOLED_API_KEY",
            show_default=False,
            help="An admin key besides those of the store; repeat it for several.",
        ),
    ] = None,
    tls_cert: Annotated[str | None, typer.Option(help="PEM file of the certificate.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="PEM file of its private key.")] = None,
    tls_client_ca: Annotated[
        str | None, typer.Option(help="PEM file; clients must bring a certificate signed by it.")
    ] = None,
    rate_limit: Annotated[
        float | None, typer.Option(help="Requests a second for each organization.")
    ] = None,
    daily_quota: Annotated[
        int | None, typer.Option(help="New jobs a day (of UTC) for each organization.")
    ] = None,
    require_lease_id: Annotated[
        bool, typer.Option("--require-lease-id", help="Settle only with lease_id, as the cloud.")
    ] = False,
    keep_settled: Annotated[
        str | None,
        typer.Option(
            show_default="for ever",
            help="How long jobs that completed or were cancelled keep payload, result and tags: "
            "7d, 12h, 30m.",
        ),
    ] = None,
    keep_keys: Annotated[
        str | None,
        typer.Option(
            show_default="for ever",
            help="How long such jobs, if in no batch, and their idempotency keys are kept at all.",
        ),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="HOST:PORT where Prometheus finds /metrics (plain HTTP).")
    ] = None,
    log_format: Annotated[str, typer.Option(help="text, or json for programs.")] = "text",
    log_level: Annotated[
        str, typer.Option(help="debug, info (a line for each call), warning or error.")
    ] = "warning",
    grace_seconds: Annotated[
        float, typer.Option(help="How long calls that run may take after SIGTERM.")
    ] = 5.0,
    batch_extension: Annotated[
        bool,
        typer.Option(
            "--batch-extension/--no-batch-extension", help="Speak the batch extension too."
        ),
    ] = True,
) -> None:
    """Run a server until SIGTERM or Ctrl-C. Its keys: see `keys`; --api-key."""
    from spooled_pipelines.server.errors import StoreUnavailableError
    from spooled_pipelines.server.logs import configure_logging
    from spooled_pipelines.server.retention import retention_of
    from spooled_pipelines.server.run import run
    from spooled_pipelines.server.settings import NoKeysError, ServerSettings

    try:
        configure_logging(log_format, log_level)
        settings = ServerSettings(
            listen=listen,
            store=store,
            api_keys=tuple(api_key or ()),
            tls_cert=tls_cert,
            tls_key=tls_key,
            tls_client_ca=tls_client_ca,
            rate_limit=rate_limit,
            daily_quota=daily_quota,
            require_lease_id=require_lease_id,
            batch_extension=batch_extension,
            retention=retention_of(keep_settled, keep_keys),
            metrics=metrics,
            grace_seconds=grace_seconds,
        )
        run(settings, ready=lambda address: print(f"listening on {address}", flush=True))
    except OSError as error:
        raise UsageError(describe_os_error(error)) from error
    except NoKeysError as error:
        raise UsageError(no_key()) from error
    except (StoreUnavailableError, ValueError) as error:
        # How the server, which knows nothing of our errors, says that it cannot begin.
        raise UsageError(str(error)) from error


def no_key() -> str:
    """Why the server does not start, with a key to copy. It is new each time, and kept nowhere."""
    import secrets

    return (
        "the server needs an API key that its clients will use: make one in its store with "
        "`spooled-pipelines keys create`, give --api-key, or set "
        f"SPOOLED_API_KEY, for example: export SPOOLED_API_KEY=sp_live_{secrets.token_hex(16)}"
    )
