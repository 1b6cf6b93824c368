"""The command line: its commands, and how each of them ends."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from spooled_pipelines.cli.commands import (
    backup,
    cancel,
    check,
    dead_letters,
    doctor,
    enqueue,
    keys,
    plan,
    profiles,
    queues,
    results,
    retry,
    serve,
    stats,
    watch,
    work,
)
from spooled_pipelines.cli.error_output import describe, describe_os_error, print_error
from spooled_pipelines.cli.exit_codes import (
    BAD_INPUT,
    INTERRUPTED,
    OK,
    UsageError,
    exit_code_of,
)
from spooled_pipelines.errors import SpooledError

_EPILOG = (
    "Exit codes: 0 done, 1 more jobs failed than allowed or `check` found faults, 2 bad input, "
    "3 server unreachable, 4 denied, 5 other, 6 the data could not be read, 130 interrupted."
)
# A function is one command, an app a group of commands.
_COMMANDS: dict[str, Callable[..., object] | typer.Typer] = {
    "serve": serve.serve,
    "enqueue": enqueue.enqueue,
    "plan": plan.plan,
    "stats": stats.stats,
    "watch": watch.watch,
    "results": results.results,
    "cancel": cancel.cancel,
    "retry": retry.retry,
    "queues": queues.app,
    "dead-letters": dead_letters.app,
    "work": work.work,
    "backup": backup.backup,
    "check": check.check,
    "keys": keys.app,
    "profiles": profiles.profiles,
    "doctor": doctor.doctor,
}


class _LazyCommands(Mapping[str, Any]):
    """The commands by name, each built when it is looked up.

    They have three hundred parameters together, and building all of them takes longer than most
    commands do.
    """

    def __getitem__(self, name: str) -> Any:
        command = _COMMANDS[name]
        if not isinstance(command, typer.Typer):
            single = typer.Typer(add_completion=False, rich_markup_mode=None)
            single.command(name)(command)
            return typer.main.get_command(single)
        group = typer.main.get_group(command)
        group.name = name
        return group

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)


class _Program(TyperGroup):
    """The group of all commands; its help needs the docstrings of the commands alone."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": _LazyCommands()})

    def list_commands(self, _context: object) -> list[str]:
        return list(self.commands)

    def format_commands(self, _context: object, formatter: Any) -> None:
        width = formatter.width - 6 - max(map(len, _COMMANDS))
        rows = [
            (name, TyperCommand(name, help=_help_of(command)).get_short_help_str(width))
            for name, command in _COMMANDS.items()
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _help_of(command: Callable[..., object] | typer.Typer) -> str:
    if isinstance(command, typer.Typer):
        return str(command.info.help)
    return inspect.getdoc(command) or ""


app = typer.Typer(
    cls=_Program,
    name="spooled-pipelines",
    help="A table goes in, jobs come out, and the pipeline knows when they are done.",
    epilog=_EPILOG,
    # Drawing boxes around the help takes longer than everything else together.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


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
    """Take the options that come before a command."""


def run(arguments: Sequence[str]) -> int:
    """Run one command; every expected end is an exit code and at most one line on stderr."""
    try:
        code = app(list(arguments) or ["--help"], standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        print_error("interrupted")
        return INTERRUPTED
    except UsageError as error:
        print_error(str(error))
        return BAD_INPUT
    except SpooledError as error:
        print_error(describe(error))
        return exit_code_of(error)
    except OSError as error:
        print_error(describe_os_error(error))
        return BAD_INPUT
    except Exception as error:
        # Typer has its own copy of click or uses the installed one, so its errors have no common
        # base to name; all of them can format their message.
        if not hasattr(error, "format_message"):
            raise
        if message := error.format_message():
            print_error(message + _hint(error))
        return BAD_INPUT
    if code == INTERRUPTED:
        # Newer versions of typer turn Ctrl-C into this code themselves, without a word.
        print_error("interrupted")
    return code if isinstance(code, int) else OK


def _hint(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", None)
    return f" (try: {path} --help)" if path else ""
