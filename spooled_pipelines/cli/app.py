"""The command line: its commands, and how each of them ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from spooled_pipelines.cli.error_output import describe, describe_os_error, print_error
from spooled_pipelines.cli.exit_codes import (
    BAD_INPUT,
    INTERRUPTED,
    OK,
    CommandInterruptedError,
    UsageError,
    exit_code_of,
)
from spooled_pipelines.errors import SpooledError

_EPILOG = (
    "Exit codes: 0 done, 1 more jobs failed than allowed or `check` found faults, 2 bad input, "
    "3 server unreachable, 4 denied, 5 other, 6 the data could not be read, 130 interrupted."
)
# The commands with the first sentence of their help. Each is built from its module in `commands/`
# when it is looked up: their three hundred parameters take longer than most commands do.
_COMMANDS = {
    "serve": "Run a server until SIGTERM or Ctrl-C.",
    "enqueue": "Make each row of FILE a job of QUEUE.",
    "plan": "Show what `enqueue` would do with the same arguments, and write nothing.",
    "stats": "Show the jobs of QUEUE by status, its workers, and the errors of jobs that wait to "
    "retry.",
    "watch": "Follow BATCH until all its jobs are settled; exit code 1 if too many of them failed.",
    "results": "Print the jobs of BATCH with their results: a table on a terminal, else JSON "
    "lines.",
    "cancel": "Cancel the jobs of BATCH that have not started; running jobs go on.",
    "retry": "Put the dead letters of BATCH back into the queue, with all their retries.",
    "queues": "List queues; rename one, hold it, let it go on, slow it down, or empty it.",
    "batches": "List batches.",
    "jobs": "List jobs; show, cancel, retry or discard single ones.",
    "workers": "List workers.",
    "dead-letters": "List, retry and discard the dead letters of a queue.",
    "work": "Run MODULE:FUNCTION on each job of QUEUE until SIGTERM or Ctrl-C, then finish "
    "what runs.",
    "backup": "Copy a SQLite store as it is at one moment, also while the server runs.",
    "copy": "Carry a store over into an empty one, between SQLite and PostgreSQL either way.",
    "organizations": "List the organizations of a store; export one, or delete it for good.",
    "migrate": "Make the schema of a store, or bring it up to date; what is there already stays.",
    "check": "Recount every counter of a store and verify its file; exit code 1 if anything "
    "differs.",
    "keys": "Create, list and revoke API keys.",
    "audit": "List who did what with which key, and which keys were refused, newest first.",
    "profiles": "List the servers that the configuration file names, and where their keys are "
    "kept.",
    "doctor": "Check a set-up step by step, from the settings to the server's clock, and write "
    "nothing.",
}


class _LazyCommands(Mapping[str, Any]):
    """The commands by name, each imported and built when it is looked up."""

    def __getitem__(self, name: str) -> Any:
        if name not in _COMMANDS:
            raise KeyError(name)
        attribute = name.replace("-", "_")
        module = import_module(f"spooled_pipelines.cli.commands.{attribute}")
        if hasattr(module, "app"):
            group = typer.main.get_group(module.app)
            group.name = name
            for command in group.commands.values():
                _name_arguments(command)
            return group
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name)(getattr(module, attribute))
        return _name_arguments(typer.main.get_command(single))

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)


def _name_arguments(command: Any) -> Any:
    """Let the usage line name arguments as the help does, such as QUEUE; return the command."""
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            parameter.metavar = parameter.metavar or parameter.name.upper()
    return command


class _Program(TyperGroup):
    """The group of all commands, which lists them without importing them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": _LazyCommands()})

    def list_commands(self, _context: object) -> list[str]:
        return list(self.commands)

    def format_commands(self, _context: object, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


app = typer.Typer(
    cls=_Program,
    name="spooled-pipelines",
    help="A table goes in, jobs come out, and the pipeline knows when they are done.",
    epilog=_EPILOG,
    # Drawing boxes around the help takes longer than everything else together.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
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
    except CommandInterruptedError as error:
        print_error(str(error))
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
