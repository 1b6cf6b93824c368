"""What strangers wrote is shown on a terminal, and steers nothing there."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from spooled_pipelines import SpooledClient
from spooled_pipelines.batch.display.html_card import Card
from spooled_pipelines.cli.error_output import print_error
from spooled_pipelines.cli.live_line import LiveLine
from spooled_pipelines.cli.output import print_json, print_pairs
from spooled_pipelines.cli.table_output import print_table, write_rows
from spooled_pipelines.errors import ServerError
from spooled_pipelines.text import plain_json
from tests.support.cli import Done

# The clipboard, the screen, a C1 control, the order of text, and a tag beyond 16 bits.
EVIL = "ok\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\u202etxt.exe\U000e0041"
OBEYED = "\x1b\x07\x9b\u202e\U000e0041"


def clean(text: str) -> bool:
    return not any(character in text for character in OBEYED)


@pytest.mark.parametrize(
    "arguments",
    [
        ("dead-letters", "list", "{queue}"),
        ("dead-letters", "errors", "--batch", "{batch}"),
        ("dead-letters", "history", "{job}"),
        ("results", "{batch}"),
        ("results", "{batch}", "--format", "table"),
        ("watch", "{batch}"),
        ("dead-letters", "list", "{queue}", "--json"),
        ("watch", "{batch}", "--json"),
    ],
    ids=" ".join,
)
def test_commands_show_and_do_not_obey(
    to_server: None,
    client: SpooledClient,
    queue: str,
    spooled: Callable[..., Done],
    arguments: tuple[str, ...],
) -> None:
    batch = client.enqueue_batch([{"a": 1}], queue)
    (job,) = client.dequeue(queue, "w")
    client.fail(job, EVIL, retry=False)
    names = {"queue": queue, "batch": batch.id, "job": job.id}
    done = spooled(*(each.format(**names) for each in arguments))
    assert "ok" in done.stdout + done.stderr or arguments[0] == "watch"
    assert clean(done.stdout + done.stderr)


def test_everything_that_prints_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(EVIL)
    print_pairs({"name": EVIL + "\nrole  admin"})
    print_json({"name": EVIL})
    print_table(pa.table({EVIL: [EVIL]}).to_reader(), 20)
    with LiveLine() as line:
        line.show(EVIL)
    shown = capsys.readouterr()
    # Rich colours nothing where no terminal is.
    assert clean(shown.out + shown.err)
    assert "⟨U+202E⟩" in shown.err
    assert "\nrole  admin" not in shown.out


def test_errors_and_cards_escape() -> None:
    assert clean(str(ServerError(EVIL)))
    assert clean(ServerError(EVIL).message)
    card = Card(EVIL, [(EVIL, EVIL)], [EVIL], details=(EVIL, [EVIL]))
    assert clean(repr(card) + card.html())
    assert "<div>run <code>&lt;b&gt;</code></div>" in Card("t", [], ["run `<b>`"]).html()


def test_escaped_json_says_the_same() -> None:
    text = plain_json(json.dumps({"a": EVIL}, ensure_ascii=False))
    assert clean(text)
    assert json.loads(text) == {"a": EVIL}


def test_a_terminal_gets_csv_escaped() -> None:
    import io

    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    reader = pa.table({"a": [EVIL]}).to_reader()
    write_rows(reader, terminal, "csv")
    assert clean(terminal.getvalue().decode())


@pytest.mark.parametrize("escape", [True, False])
def test_formulas_in_csv_results(
    client: SpooledClient, queue: str, tmp_path: Path, escape: bool
) -> None:
    batch = client.enqueue_batch([{"a": 1}], queue)
    (job,) = client.dequeue(queue, "w")
    client.complete(job, result={"@sum": "=cmd|' /C calc'!A0", "n": -1, "text": "a=1"})
    path = tmp_path / "results.csv"
    if escape:
        batch.write_results(path)
    else:
        batch.write_results(path, escape_formulas=False)
    with path.open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    mark = "'" * escape
    assert row[f"{mark}@sum"] == f"{mark}=cmd|' /C calc'!A0"
    assert (float(row["n"]), row["text"]) == (-1, "a=1")
