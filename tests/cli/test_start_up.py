"""A command loads what it needs, so that help and completion come at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_what_is_left_out_for_speed_is_not_missing_in_the_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands = [one.name for one in app.registered_commands]
    groups = [one.name for one in app.registered_groups]

    def said(*arguments: str, whole: bool) -> str:
        assert (app(list(arguments), standalone_mode=False) if whole else run(arguments)) in (
            0,
            None,
        )
        return capsys.readouterr().out

    assert said("--help", whole=True) == said("--help", whole=False) == said(whole=False)
    for name in (*commands, *groups):
        assert said(str(name), "--help", whole=True) == said(str(name), "--help", whole=False)
