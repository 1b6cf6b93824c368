"""`serve`: the server, over SQLite or PostgreSQL."""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spooled_pipelines.cli.error_output import describe_os_error
from spooled_pipelines.cli.exit_codes import BAD_INPUT, UsageError
from spooled_pipelines.cli.options import AsJson, set_parameters
from spooled_pipelines.cli.output import print_json
from spooled_pipelines.cli.telemetry import export_traces
from spooled_pipelines.server.config.options import OPTIONS, Kind, Option

if TYPE_CHECKING:
    from spooled_pipelines.server.config.settings import ServerSettings

_log = logging.getLogger(__name__)
_FLAG_TYPES: Mapping[Kind, Any] = {
    Kind.INTEGER: int | None,
    Kind.SWITCH: bool | None,
    Kind.WORDS: list[str] | None,
    Kind.SECRET_WORDS: list[str] | None,
}
# Of these the help shows no default: it is in their names, or they have none.
_WITHOUT_DEFAULT = (Kind.SWITCH, Kind.WORDS, Kind.SECRET_WORDS)


def serve(
    as_json: AsJson = False,
    config: Annotated[
        str | None,
        typer.Option(
            help="TOML file with these settings, under their names with underscores; or "
            "SPOOLED_SERVER_CONFIG. Flags take precedence over variables, variables over the file."
        ),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config",
            help="Show the effective settings and their origin, say what is wrong with them, "
            "and do not serve.",
        ),
    ] = False,
    **flags: Any,
) -> None:
    """Run a server until SIGTERM or Ctrl-C. It needs a key: see `keys create` and --api-key."""
    settings = {name: value for name, value in flags.items() if value not in (None, [])}
    _serve(settings, config, print_config=print_config, as_json=as_json)


def _flag(option: Option) -> inspect.Parameter:
    names = [f"{option.flag}/--no-{option.flag[2:]}"] if option.kind is Kind.SWITCH else []
    shown = option.shown_default
    flag = typer.Option(
        *names,
        help=option.help,
        metavar=option.metavar,
        show_default=False if option.kind in _WITHOUT_DEFAULT or shown == "none" else shown,
    )
    value: Any = _FLAG_TYPES.get(option.kind, str | None)
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(option.name, kind, default=None, annotation=Annotated[value, flag])


*_own, _ = inspect.signature(serve, eval_str=True).parameters.values()
set_parameters(serve, [*_own, *map(_flag, OPTIONS.values())])


def _serve(
    flags: dict[str, object], path: str | None, *, print_config: bool, as_json: bool
) -> None:
    try:
        from spooled_pipelines.server.config.loading import load
    except ImportError as error:
        raise UsageError(
            "the server needs pydantic; pip install 'spooled-pipelines[server]'"
        ) from error
    from spooled_pipelines.server.telemetry.logs import configure_logging

    try:
        loaded = load(flags, os.environ, path)
    except (OSError, ValueError) as error:
        raise UsageError(
            describe_os_error(error) if isinstance(error, OSError) else str(error)
        ) from error
    if print_config:
        if as_json:
            print_json(loaded.described())
        else:
            print("\n".join(loaded.lines()))
        _check(loaded.settings)
        return
    in_json = loaded.log_format == "json"
    if in_json:
        # Its library in C writes lines of its own.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    configure_logging(loaded.log_format, loaded.log_level)
    try:
        _run(loaded.settings, as_json=as_json or in_json)
    except UsageError as error:
        if not in_json:
            raise
        _log.critical("%s", error)
        raise typer.Exit(BAD_INPUT) from error


def _run(settings: ServerSettings, *, as_json: bool) -> None:
    from spooled_pipelines.server.serve import run

    export_traces("spooled-server")
    with _usage_errors():
        run(
            settings,
            ready=lambda address: _say("listening on", "listening", address, as_json),
            dashboard_ready=lambda url: _say("page at", "page", url, as_json),
        )


def _check(settings: ServerSettings) -> None:
    from spooled_pipelines.server.server import Server

    with _usage_errors():
        Server(settings).check()


@contextlib.contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn what keeps a server from starting into a usage error."""
    from spooled_pipelines.server.config.settings import NoKeysError
    from spooled_pipelines.server.core.errors import StoreUnavailableError

    try:
        yield
    except OSError as error:
        raise UsageError(describe_os_error(error)) from error
    except NoKeysError as error:
        raise UsageError(no_key()) from error
    except (StoreUnavailableError, ValueError) as error:
        # How the server, which knows nothing of our errors, says that it cannot begin.
        raise UsageError(str(error)) from error


def _say(words: str, name: str, where: str, as_json: bool) -> None:
    """Print where it can be reached, as soon as it can."""
    print(json.dumps({name: where}) if as_json else f"{words} {where}", flush=True)


def no_key() -> str:
    """Return why the server does not start, with a new key to copy, which is kept nowhere."""
    import secrets

    return (
        "the server needs an API key that its clients will use: make one in its store with "
        "`spooled-pipelines keys create`, give --api-key, or set "
        f"SPOOLED_API_KEY, for example: export SPOOLED_API_KEY=sp_live_{secrets.token_hex(16)}"
    )
