"""Pages whose blocks are pasted, as they are, into real terminals and a real kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.doc_blocks import DOCS, ROOT, Block, blocks_of
from tests.support.doc_setup import free_ports
from tests.support.kernel import Kernel, shown
from tests.support.terminal import Terminal


def pasted(block: Block) -> str:
    """What the copy button gives of a block of the shell: its lines without the prompts."""
    return "".join(line.removeprefix("$ ") for line in block.text.splitlines(keepends=True))


def write_files(page: Path, folder: Path) -> None:
    """Save the blocks that are files."""
    for block in blocks_of(page):
        if block.title:
            (folder / block.title).write_text(block.text)


def shell_blocks() -> list[str]:
    """What index.md has for terminals: work, script, and with a server serve, work, script."""
    blocks = [block for block in blocks_of(DOCS / "index.md") if block.language == "console"]
    return [pasted(block) for block in blocks[1:]]


def test_the_first_five_minutes_in_two_terminals(tmp_path: Path) -> None:
    write_files(DOCS / "index.md", tmp_path)
    work, script, *_ = shell_blocks()
    with Terminal(tmp_path) as one, Terminal(tmp_path) as two:
        one.paste(work)
        one.see("takes jobs from queue=orders")
        text = two.run(script)
        assert text.count("completed") == 3, text
        assert "14.4" in text
        assert f"kept in {tmp_path / 'spooled.db'}" in text
        one.interrupt()
        one.see("3 completed")


@pytest.mark.long
def test_the_same_with_a_server_in_three_terminals(tmp_path: Path) -> None:
    write_files(DOCS / "index.md", tmp_path)
    _, _, serve, work, script = shell_blocks()
    # The port of the page may be another's here.
    port = free_ports(1)
    named = {"SPOOLED_GRPC_ADDRESS": f"localhost:{port}"}
    with (
        Terminal(tmp_path, {"SPOOLED_SERVER_LISTEN": f"localhost:{port}"}) as one,
        Terminal(tmp_path, named) as two,
        Terminal(tmp_path, named) as three,
    ):
        one.paste(serve)
        one.see(f"listening on .*:{port}")
        two.paste(work)
        two.see("takes jobs from queue=orders")
        text = three.run(script)
        assert text.count("completed") == 3, text
        assert "No server was named" not in text
        two.interrupt()
        two.see("3 completed")
        one.interrupt()
        one.see("ready>$")


def test_the_shell_part_of_the_readme_in_a_terminal(tmp_path: Path) -> None:
    readme = ROOT / "README.md"
    write_files(readme, tmp_path)
    (block,) = [each for each in blocks_of(readme) if "batches list" in each.text]
    with Terminal(tmp_path) as terminal:
        text = terminal.run(block.text)
    assert "3 completed" in text
    assert "3 of 3 done (100%)" in text
    assert "14.4" in text
    assert "first try" in text.rpartition("batches list")[2]


def test_the_page_of_notebooks_in_a_kernel(tmp_path: Path) -> None:
    named = {name: "" for name in os.environ if name.startswith("SPOOLED_")}
    with Kernel(tmp_path, **named) as kernel:
        for block in blocks_of(DOCS / "notebook.md"):
            if block.language in ("python", "ipython"):
                seen = kernel.run(block.text)
                # Red, below the cell.
                errors = [m for m in seen if m["content"].get("name") == "stderr"]
                assert not errors, errors
        table = shown(kernel.run("results.status.value_counts().to_dict()"), "text/plain")
    assert table == "{'completed': 3000}"
