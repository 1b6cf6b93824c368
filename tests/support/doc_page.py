"""Runs the blocks of one page, from its top to its end, against a real server.

A process of its own, started in an empty folder with the server in its environment:

    python -m tests.support.doc_page docs/worker.md 0 2 3

The blocks of Python share one namespace, as in a notebook. A line of a console block is run by
bash; `serve` and `work` go on beside the others until the page ends, and then have to end well
when they are told to. What a page takes for granted (a table, a file, a batch) is prepared by
tests/docs/around/PAGE.py. It prints `ran NAME` for each block that came to its end.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support.doc_blocks import DOCS, ROOT, Block, blocks_of
from tests.support.doc_setup import CannotRunError

AROUND = ROOT / "tests" / "docs" / "around"
_BESIDE = re.compile(r"^(?:\S*/)?spooled-pipelines (?:serve|work)\b")
_BATCH = re.compile(r"b_[0-9a-f]{32}")
_STOP_SECONDS = 120


@dataclass
class Page:
    """One page that is being run.

    Attributes:
        address, api_key: of the server that the test has started.
        names: the namespace of its Python blocks.
        replace: what stands in the text, and what is run in its place.
        printed: what the last block wrote to standard output.
        beside: what ends with the page.
    """

    address: str = field(default_factory=lambda: os.environ["SPOOLED_GRPC_ADDRESS"])
    api_key: str = field(default_factory=lambda: os.environ["SPOOLED_API_KEY"])
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    replace: dict[str, str] = field(default_factory=dict)
    printed: str = ""
    beside: ExitStack = field(default_factory=ExitStack)
    # Exit codes that a console line has to have instead of 0, by what is in the line.
    codes: dict[str, int] = field(default_factory=dict)

    # What was run, and what stands for it in what is shown as printed.
    shown: dict[str, str] = field(default_factory=dict)

    def as_shown(self) -> str:
        """What was printed, in the words of the page."""
        text = self.printed
        for run, shown in self.shown.items():
            text = text.replace(run, shown)
        return text

    def put(self, text: str) -> str:
        """The text with what is replaced in it, the longest first."""
        for shown in sorted(self.replace, key=len, reverse=True):
            text = text.replace(shown, self.replace[shown])
        return text


def run_page(path: str, numbers: set[int]) -> None:
    page = Page()
    page.replace = {
        # Ports that others of this machine may have.
        "127.0.0.1:50051": "127.0.0.1:0",
        "127.0.0.1:8080": "127.0.0.1:0",
        "localhost:50051": page.address,
        "spooled.internal:50051": page.address,
        '"sp_test_..."': repr(page.api_key),
        '"sp_live_…"': repr(page.api_key),
    }
    port = page.address.rpartition(":")[2]
    page.shown = {page.address: "localhost:50051", f"localhost:{port}": "localhost:50051"}
    around = _around(path)
    blocks = blocks_of(ROOT / path)
    whole = getattr(around, "page", None)
    with page.beside, contextlib.ExitStack() as stack:
        if whole is not None:
            stack.enter_context(whole(page))
        for block in blocks:
            if block.number in numbers and is_script(block, blocks):
                Path(block.title).write_text(page.put(block.text))
                print("ran", block.name, flush=True)
            elif block.number in numbers:
                prepared = getattr(around, block.around)(page) if block.around else _nothing()
                with prepared:
                    _run(page, block)
                print("ran", block.name, flush=True)
            elif block.is_output and block.number - 1 in numbers:
                compare(block, page.as_shown())
                print("ran", block.name, flush=True)


def is_script(block: Block, blocks: list[Block]) -> bool:
    """Whether a line of the page runs the block, as a file."""
    return bool(block.title) and any(f"python {block.title}" in other.text for other in blocks)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _around(path: str) -> ModuleType | None:
    stem = str((ROOT / path).relative_to(DOCS if path.startswith("docs/") else ROOT))
    source = AROUND / (stem.removesuffix(".md").replace("/", "_").replace("-", "_") + ".py")
    if not source.exists():
        return None
    spec = importlib.util.spec_from_file_location("around", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run(page: Page, block: Block) -> None:
    if block.title and block.language == "python":
        file = Path(block.title)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page.put(block.text))
    if block.language == "console":
        for line in commands(block):
            _run_line(page, page.put(line))
        return
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        if block.language == "ipython":
            _run_cell(page.put(block.text), page.names)
        else:
            # As a file of its own would be, without this one's __future__.
            exec(compile(page.put(block.text), block.name, "exec", dont_inherit=True), page.names)
    page.printed = written.getvalue()


def _run_cell(text: str, names: dict[str, Any]) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance(user_ns=names)
    shell.run_cell(text).raise_error()


def commands(block: Block) -> list[str]:
    """The lines that are typed; where one begins with `$ `, the others are what was printed."""
    text = block.text.replace("\\\n", " ")
    lines = _joined(text.splitlines())
    typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")] or lines
    return [
        line.split("   #")[0].strip()
        for line in typed
        if line.strip() and not line.startswith(block.left_out or ("\0",))
    ]


def _joined(lines: list[str]) -> list[str]:
    """A line in quotes that go on in the next is one line."""
    joined: list[str] = []
    for line in lines:
        if joined and joined[-1].count("'") % 2:
            joined[-1] += "\n" + line
        else:
            joined.append(line)
    return joined


def _run_line(page: Page, line: str) -> None:
    if line.startswith("export "):
        shown = _bash(page, f"{line.strip()}\nenv -0")
        os.environ.update(pair.split("=", 1) for pair in shown.split("\0") if "=" in pair)
        return
    ends = any(text in line for text in page.codes)
    if (
        _BESIDE.match(line)
        and not ends
        and "--stop-when-empty" not in line
        and "--print-config" not in line
    ):
        page.beside.enter_context(_going(page, line))
        return
    page.printed = _bash(page, line)
    if found := _BATCH.search(page.printed):
        page.replace["BATCH"] = found[0]


def _bash(page: Page, line: str) -> str:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    allowed = next((code for text, code in page.codes.items() if text in line), 0)
    if done.returncode != allowed:
        raise AssertionError(f"{line}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


@contextmanager
def _going(page: Page, line: str) -> Iterator[None]:
    """A server or a worker, from when it takes calls or jobs until the page ends."""
    words = shlex.split(os.path.expandvars(line))
    health = Path(f"health-{len(list(Path().glob('health-*')))}")
    is_server = "serve" in words
    if not is_server:
        words += ["--health-file", str(health)]
    elif "--listen" not in words:
        words += ["--listen", "127.0.0.1:0"]
    log = Path(f"log-{words[1]}-{os.urandom(3).hex()}").open("w+")  # noqa: SIM115
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    try:
        if is_server:
            said = ""
            while not (line := process.stdout.readline()).startswith("listening on "):
                said += line
                assert line, f"{words}: {said}{Path(log.name).read_text()}"
            port = line.strip().rpartition(":")[2]
            os.environ["SPOOLED_GRPC_ADDRESS"] = f"localhost:{port}"
        else:
            from tests.support.waiting import eventually

            eventually(lambda: health.exists() or process.poll() is not None, 300)
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        code = process.wait(_STOP_SECONDS)
        process.stdout.close()
        log.close()
    assert code == 0, f"{words} ended with {code}: {Path(log.name).read_text()}"


def compare(shown: Block, printed: str) -> None:
    """What the page shows is what was printed; lines may be broken elsewhere, and `…` stands
    for anything."""
    pattern = re.escape(" ".join(shown.text.split())).replace("…", ".*?")
    assert re.fullmatch(pattern, " ".join(printed.split())), f"{shown.name} printed:\n{printed}"


if __name__ == "__main__":
    try:
        run_page(sys.argv[1], {int(number) for number in sys.argv[2:]})
    except CannotRunError as error:
        print("cannot run:", error)
