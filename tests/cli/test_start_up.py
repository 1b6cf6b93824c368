"""A command loads what it needs, so that help and completion come at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from spooled_pipelines.cli import app as app_module
from spooled_pipelines.cli.app import app, run

HEAVY = {
    *("grpc", "google.protobuf", "pyarrow", "numpy", "pandas", "rich", "IPython", "airflow"),
    *("asyncio", "tqdm", "sqlite3", "keyring", "ssl", "opentelemetry", "matplotlib"),
}
PROGRAM = """
import contextlib, io, sys
with contextlib.redirect_stdout(io.StringIO()):
    from spooled_pipelines.cli.app import run
    code = run(sys.argv[1:])
print(code, *sorted(sys.modules))
"""


def loaded(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    code, *modules = done.stdout.split()
    assert code == "0", done.stderr
    return set(modules)


@pytest.mark.parametrize(
    "arguments",
    [(), ("--help",), ("--version",), ("enqueue", "--help"), ("serve", "--help"), ("profiles",)],
    ids=" ".join,
)
def test_help_loads_neither_grpc_nor_arrow(arguments: tuple[str, ...]) -> None:
    assert loaded(*arguments) & HEAVY == set()


def test_the_list_of_commands_loads_no_validators_either() -> None:
    # (typer brings pydantic in by itself, for the values of a command that has some.)
    assert "pydantic" not in loaded("--help")


def test_a_shell_completes_commands_options_and_profiles(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[profiles.production]\naddress = "h:1"\n')

    def completed(line: str) -> list[str]:
        done = subprocess.run(
            [Path(sys.executable).with_name("spooled-pipelines")],
            env={
                **os.environ,
                "SPOOLED_CONFIG": str(config),
                "_SPOOLED_PIPELINES_COMPLETE": "complete_bash",
                "COMP_WORDS": line,
                "COMP_CWORD": str(line.count(" ")),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.split()

    assert completed("spooled-pipelines en") == ["enqueue"]
    assert "--key" in completed("spooled-pipelines enqueue --k")
    assert completed("spooled-pipelines stats --profile pro") == ["production"]


def test_the_list_says_the_first_sentence_of_each_command_and_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def help_of(*arguments: str) -> str:
        assert run([*arguments, "--help"]) == 0
        return " ".join(capsys.readouterr().out.split())

    listed = help_of()
    assert run([]) == 0
    assert " ".join(capsys.readouterr().out.split()) == listed
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert len(commands) > 10
    for name, command in commands.items():
        sentence = command.help.partition(". ")[0].partition(".\n")[0].rstrip(".") + "."
        sentence = " ".join(sentence.split())
        assert f"{name} {sentence}" in listed
        assert sentence in help_of(name)


def test_every_module_of_commands_is_a_command() -> None:
    folder = Path(app_module.__file__).parent / "commands"
    modules = {path.stem.replace("_", "-") for path in folder.glob("[!_]*.py")}
    assert modules == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
