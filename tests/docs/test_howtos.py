"""Each how-to is a program that runs, against a real server, from its top to its end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml

from spooled_pipelines.cli.app import app

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
HOWTOS = sorted((DOCS / "howto").glob("*.md"))
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```", re.DOTALL | re.MULTILINE)
OURS = re.compile(r"^\s*(?:\$ )?(?:\S*/)?spooled-pipelines (.*)$")


class Block(NamedTuple):
    page: Path
    language: str
    title: str
    text: str


def blocks(pages: list[Path]) -> Iterator[Block]:
    for page in pages:
        for language, title, text in BLOCK.findall(page.read_text()):
            yield Block(page, language, title, text)


def test_every_dag_that_is_shown_is_one(tmp_path: Path) -> None:
    dags = [b for b in blocks(HOWTOS) if b.title.startswith("dags/")]
    assert len(dags) >= 2
    for number, dag in enumerate(dags):
        (tmp_path / f"dag_{number}.py").write_text(dag.text)
    program = f"""
from airflow.sdk.definitions.dag import DAG
import runpy
for number in range({len(dags)}):
    found = runpy.run_path(f"dag_{{number}}.py")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=tmp_path,
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def command_lines() -> Iterator[tuple[str, str]]:
    for block in blocks(PAGES):
        if block.language == "console":
            text = block.text.replace("\\\n", " ")
            for line in text.splitlines():
                if found := OURS.match(line):
                    yield block.page.name, re.split(r"\s+#|\s[|>&]", found[1])[0].strip()
    for page in PAGES:
        # In a sentence, over the end of a line perhaps.
        for found in re.findall(r"`spooled-pipelines ([a-z][^`|]*)`", page.read_text()):
            yield page.name, " ".join(found.split())


def parsed(words: list[str]) -> None:
    """What the program itself would say of these words, without doing anything."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        # Options of the program itself, such as --profile.
        while words and words[0].startswith("-"):
            words = words[2:] if "=" not in words[0] and len(words) > 1 else words[1:]
        if not words:
            return
        name, words = words[0], words[1:]
        found = command.commands.get(name)
        assert found is not None, f"there is no command {name}"
        command = found
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    assert set(options) <= known, f"{set(options) - known} of {command.name}"


@pytest.mark.parametrize(("page", "line"), sorted(set(command_lines())))
def test_every_command_line_is_one_that_the_program_takes(page: str, line: str) -> None:
    parsed([word.strip("\"'") for word in line.split()])


def test_every_configuration_that_is_shown_can_be_read() -> None:
    seen = 0
    for block in blocks(PAGES):
        if block.language == "toml":
            tomllib.loads(block.text)
            seen += 1
        elif block.language in ("yaml", "yml"):
            list(yaml.safe_load_all(block.text))
            seen += 1
    assert seen >= 2


def test_every_how_to_and_picture_is_reached() -> None:
    nav = (ROOT / "mkdocs.yml").read_text()
    for page in sorted(DOCS.rglob("*.md")):
        assert f" {page.relative_to(DOCS)}" in nav, page
    shown = {name for page in PAGES for name in re.findall(r"images/([\w.-]+)", page.read_text())}
    assert {path.name for path in (DOCS / "images").iterdir()} == shown
