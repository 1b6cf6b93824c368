"""What a terminal of 80 columns shows while a command runs, and after Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spooled_pipelines import SpooledClient
from tests.support.server_process import ServerProcess
from tests.support.terminal import Terminal


@pytest.fixture
def terminal(server: ServerProcess, tmp_path: Path) -> Iterator[Terminal]:
    rows = "".join(f"{number}\n" for number in range(40))
    (tmp_path / "many.csv").write_text(f"id\n{rows}")
    (tmp_path / "handlers.py").write_text(
        "def odd(job):\n    assert job.payload['id'] % 2, 'even'\n"
    )
    named = {"SPOOLED_GRPC_ADDRESS": server.address, "SPOOLED_API_KEY": server.api_key}
    with Terminal(tmp_path, named) as terminal:
        yield terminal


def test_ctrl_c_in_enqueue_says_what_is_there_and_how_to_go_on(
    terminal: Terminal, queue: str
) -> None:
    enqueue = f"spooled-pipelines enqueue many.csv {queue} --key id --name n"
    terminal.paste(f"{enqueue} --max-outstanding 10")
    terminal.see("10 of 40 rows sent")
    terminal.interrupt()
    text = terminal.see("ready>$")
    said = "interrupted: 10 of 40 rows are jobs, and they stay; the same command sends the others"
    assert said in " ".join(text.split())
    assert text.count("interrupted") == 1
    assert "130" in terminal.run("echo $?")
    assert "duplicates  10" in terminal.run(enqueue)


def test_the_line_of_a_worker_has_every_job_and_is_left_once(
    terminal: Terminal, client: SpooledClient, queue: str
) -> None:
    terminal.paste(f"spooled-pipelines work {queue} handlers:odd")
    terminal.see("takes jobs from")
    client.enqueue_batch([{"id": n} for n in range(3)], queue, key="id", max_retries=0)
    terminal.see("1 completed, 2 dead")
    terminal.interrupt()
    text = terminal.see("ready>$")
    after = text.partition("SIGINT")[2]
    assert after.rstrip().splitlines()[-2].endswith("1 completed, 2 dead")
    assert "1 completed, 2 dead\r\n1 completed" not in after
