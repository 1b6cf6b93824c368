"""Write docs/cli.md from the program itself, and the settings of the server in docs/server.md.

python scripts/build_cli_docs.py           write them
python scripts/build_cli_docs.py --check   fail if what is in the repo differs
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from spooled_pipelines.cli.app import app
from spooled_pipelines.server.config.options import OPTIONS

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "cli.md"
SETTINGS_PAGE = DOCS / "server.md"
SETTINGS_BEGIN = (
    "<!-- settings: generated from spooled_pipelines/server/config/options.py (`make generate`) -->"
)
SETTINGS_END = "<!-- end of settings -->"
HEADER = """\
# Command line

```console
$ pip install 'spooled-pipelines[cli]'
```

<!-- Generated from the program by scripts/build_cli_docs.py (`make generate`): do not edit. -->
"""


def page() -> str:
    """Return the whole page: a section for each command with its arguments and options."""
    group: Any = typer.main.get_command(app)
    parts = [HEADER, _sentence(group.help), "", _sentence(group.epilog or ""), ""]
    for name, command in _commands(group):
        parts += [f"## {name}", "", f"`{_usage(name, command)}`", "", _sentence(command.help), ""]
        rows = [row for parameter in command.params if (row := _row(parameter))]
        parts += ["| | | default |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(parts).rstrip() + "\n"


def _commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command with its name, including those within groups."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield before + name, command


def _usage(name: str, command: Any) -> str:
    arguments = [p.metavar for p in command.params if p.param_type_name == "argument"]
    return " ".join(["spooled-pipelines", name, *arguments, "[OPTIONS]"])


def _row(parameter: Any) -> str | None:
    if parameter.param_type_name == "argument":
        return f"| `{parameter.metavar}` | {_sentence(parameter.help)} | |"
    if parameter.name == "help":
        return None
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    return f"| {names} | {_sentence(parameter.help)} | {_default(parameter)} |"


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    value = parameter.default
    if value in (None, False, True, [], ()):
        return ""
    return f"`{getattr(value, 'value', value)}`"


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def settings_page() -> str:
    """Return the page about the server with its table of settings as they are now."""
    before, _, rest = SETTINGS_PAGE.read_text().partition(SETTINGS_BEGIN)
    after = rest.partition(SETTINGS_END)[2]
    rows = [
        f"| `{option.name}` | `{option.flag}` | `{option.variable}` | `{option.shown_default}` | "
        f"{_sentence(option.help)} |"
        for option in OPTIONS.values()
    ]
    table = [
        "| in the file | flag | variable | default | |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "| `[organizations.NAME]` | | | `none` | rate_limit and daily_quota of one organization |",
    ]
    return "\n".join([before + SETTINGS_BEGIN, "", *table, "", SETTINGS_END]) + after


def main() -> None:
    """Write the pages, or with --check fail where they differ."""
    for path, made in ((PAGE, page()), (SETTINGS_PAGE, settings_page())):
        if "--check" not in sys.argv[1:]:
            path.write_text(made)
        elif not path.exists() or path.read_text() != made:
            raise SystemExit(
                f"docs/{path.name} is not what the program says. Run `make generate` and commit it."
            )


if __name__ == "__main__":
    main()
