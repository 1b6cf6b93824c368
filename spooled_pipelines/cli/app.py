"""The commands, put together. Each command's module imports what it needs when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from spooled_pipelines.cli import (
    codes,
    control,
    doctor,
    enqueue,
    keys,
    named,
    queues,
    results,
    serve,
    showcase,
    size,
    stats,
    upkeep,
    watch,
    work,
)
from spooled_pipelines.errors import SpooledError

_EPILOG = (
    "Exit codes: 0 done, 1 more jobs failed than allowed or `check` found faults, 2 bad input, "
    "3 server unreachable, 4 denied, 5 other, 130 interrupted."
)

app = typer.Typer(
    name="spooled-pipelines",
    help="A table goes in, jobs come out, and the pipeline knows when they are done.",
    epilog=_EPILOG,
    # Plain help: drawing boxes costs more time than everything else together.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("enqueue")(enqueue.enqueue)
app.command("plan")(enqueue.plan_command())
app.command("stats")(stats.stats)
app.command("watch")(watch.watch)
app.command("results")(results.results)
app.command("cancel")(control.cancel)
app.command("retry")(control.retry)
app.add_typer(queues.queues, name="queues")
app.add_typer(queues.dead_letters, name="dead-letters")
app.command("work")(work.work)
app.command("backup")(upkeep.backup)
app.command("check")(upkeep.check)
app.command("size")(size.size)
app.command("demo")(showcase.demo)
app.add_typer(keys.app, name="keys")
app.command("profiles")(named.profiles)
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
        code = app(list(arguments) or ["--help"], standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        codes.complain("interrupted")
        return codes.INTERRUPTED
    except (SpooledError, codes.UsageError) as error:
        if isinstance(error, codes.UsageError):
            codes.complain(str(error))
            return codes.BAD_INPUT
        codes.complain(codes.explain(error))
        return codes.code_of(error)
    except OSError as error:
        codes.complain(codes.describe_os_error(error))
        return codes.BAD_INPUT
    except Exception as error:
        # Typer brings its own copy of click or uses the one installed, so its errors have no
        # common base to name; all of them can format their message.
        if not hasattr(error, "format_message"):
            raise
        if message := error.format_message():
            codes.complain(message + _hint(error))
        return codes.BAD_INPUT
    if code == codes.INTERRUPTED:
        # Newer versions of typer turn Ctrl-C into this code themselves, without a word.
        codes.complain("interrupted")
    return code if isinstance(code, int) else codes.OK


def _hint(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", None)
    return f" (try: {path} --help)" if path else ""
