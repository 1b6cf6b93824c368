"""The commands, put together. Each command's module imports what it needs when it runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.models import CommandInfo, TyperInfo

from spooled_pipelines.cli import exit_codes
from spooled_pipelines.cli.commands import (
    cancel_retry,
    doctor,
    enqueue,
    keys,
    profiles,
    queues,
    results,
    serve,
    stats,
    store,
    watch,
    work,
)
from spooled_pipelines.errors import SpooledError

_EPILOG = (
    "Exit codes: 0 done, 1 more jobs failed than allowed or `check` found faults, 2 bad input, "
    "3 server unreachable, 4 denied, 5 other, 130 interrupted."
)

# Set by the shell whose completion asks.
_COMPLETING = "_SPOOLED_PIPELINES_COMPLETE"
_PROGRAM: dict[str, Any] = {
    "name": "spooled-pipelines",
    "help": "A table goes in, jobs come out, and the pipeline knows when they are done.",
    "epilog": _EPILOG,
    # Plain help: drawing boxes costs more time than everything else together.
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
}

app = typer.Typer(**_PROGRAM)
app.command("serve")(serve.serve)
app.command("enqueue")(enqueue.enqueue)
app.command("plan")(enqueue.plan_command())
app.command("stats")(stats.stats)
app.command("watch")(watch.watch)
app.command("results")(results.results)
app.command("cancel")(cancel_retry.cancel)
app.command("retry")(cancel_retry.retry)
app.add_typer(queues.queues, name="queues")
app.add_typer(queues.dead_letters, name="dead-letters")
app.command("work")(work.work)
app.command("backup")(store.backup)
app.command("check")(store.check)
app.add_typer(keys.app, name="keys")
app.command("profiles")(profiles.profiles)
app.command("doctor")(doctor.doctor)


def _show_version(asked: bool) -> None:
    if asked:
        from spooled_pipelines import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """A table goes in, jobs come out, and the pipeline knows when they are done."""


def run(arguments: Sequence[str]) -> int:
    """Run one command; every expected end is an exit code and at most one line on stderr."""
    try:
        code = _of(arguments)(list(arguments) or ["--help"], standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        exit_codes.complain("interrupted")
        return exit_codes.INTERRUPTED
    except (SpooledError, exit_codes.UsageError) as error:
        if isinstance(error, exit_codes.UsageError):
            exit_codes.complain(str(error))
            return exit_codes.BAD_INPUT
        exit_codes.complain(exit_codes.explain(error))
        return exit_codes.code_of(error)
    except OSError as error:
        exit_codes.complain(exit_codes.describe_os_error(error))
        return exit_codes.BAD_INPUT
    except Exception as error:
        # Typer brings its own copy of click or uses the one installed, so its errors have no
        # common base to name; all of them can format their message.
        if not hasattr(error, "format_message"):
            raise
        if message := error.format_message():
            exit_codes.complain(message + _hint(error))
        return exit_codes.BAD_INPUT
    if code == exit_codes.INTERRUPTED:
        # Newer versions of typer turn Ctrl-C into this code themselves, without a word.
        exit_codes.complain("interrupted")
    return code if isinstance(code, int) else exit_codes.OK


def _of(arguments: Sequence[str]) -> typer.Typer:
    """The program with no more in it than these arguments need.

    Typer reads the parameters of every command before it looks which one was asked for, and there
    are three hundred of them.
    """
    if _COMPLETING in os.environ:
        return app
    if list(arguments) in ([], ["--help"]):
        return _listed()
    commands = [one for one in app.registered_commands if one.name == arguments[0]]
    groups = [one for one in app.registered_groups if one.name == arguments[0]]
    return _with(commands, groups) if commands or groups else app


def _listed() -> typer.Typer:
    """Every command with its help, and without its parameters."""
    groups = []
    for group in app.registered_groups:
        inside = group.typer_instance or app
        # What is in it is read when it is asked for.
        listed = typer.Typer(help=inside.info.help, rich_markup_mode=None)
        listed.registered_commands = [_bare(one) for one in inside.registered_commands]
        groups.append(TyperInfo(listed, name=group.name))
    return _with([_bare(one) for one in app.registered_commands], groups)


def _with(commands: list[CommandInfo], groups: list[TyperInfo]) -> typer.Typer:
    # One without a group is no list of commands but that command itself.
    some = typer.Typer(**_PROGRAM)
    some.callback()(options)
    some.registered_commands = commands
    some.registered_groups = groups
    return some


def _bare(command: CommandInfo) -> CommandInfo:
    def nothing() -> None: ...

    callback: Callable[..., object] | None = command.callback
    nothing.__doc__ = callback.__doc__ if callback is not None else None
    return CommandInfo(name=command.name, help=command.help, callback=nothing)


def _hint(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", None)
    return f" (try: {path} --help)" if path else ""
