"""What the README and the pages show is code that works."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for number, found in enumerate(BLOCK.finditer(page.read_text())):
            yield f"{page.name}[{number}]", found[1]


@pytest.mark.parametrize(("name", "code"), [pytest.param(*b, id=b[0]) for b in blocks()])
def test_every_python_block_is_python(name: str, code: str) -> None:
    compile(code, name, "exec")


def test_the_readme_s_first_program_runs_and_a_second_run_enqueues_nothing(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(dict(blocks())["README.md[0]"])

    def run() -> str:
        done = subprocess.run(
            [sys.executable, str(program)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    first, second = run(), run()
    assert first.startswith("3 created, 0 there already\n")
    assert second.startswith("0 created, 3 there already\n")
    assert first.count("completed") == second.count("completed") == 3
    assert "11.4" in second


def test_the_page_about_testing_tells_what_works(tmp_path: Path) -> None:
    shown = dict(blocks())
    program = tmp_path / "test_page.py"
    program.write_text(shown["testing.md[0]"] + shown["testing.md[1]"])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_readme_has_the_two_commands_that_set_everything_up() -> None:
    readme = (ROOT / "README.md").read_text()
    console = re.search(r"^```console\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    assert console is not None
    commands = [line.split("#")[0].strip() for line in console[1].strip().splitlines()]
    assert commands == ["make demo", "make test"]


def test_every_error_is_on_its_page() -> None:
    from spooled_pipelines import errors

    page = (ROOT / "docs" / "errors.md").read_text()
    named = {name for name in errors.__all__ if name.endswith("Error")}
    assert {name for name in named if f"`{name}`" not in page} == set()
