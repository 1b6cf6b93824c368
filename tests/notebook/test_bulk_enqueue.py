"""`bulk_enqueue`, `watch` and `%enqueue`, as cells call them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.lib.pretty import pretty

from spooled_pipelines import SpooledClient
from spooled_pipelines.errors import AuthenticationError, InvalidArgumentError, RowsRejectedError
from spooled_pipelines.notebook import ConfirmationNeededError, bulk_enqueue, connection, watch
from spooled_pipelines.worker import Discard, Worker
from tests.support.server_process import ServerProcess


def facts(text: str) -> dict[str, str]:
    """The names and values of a card's text."""
    pairs = (re.split("  +", line.strip(), maxsplit=1) for line in text.splitlines()[1:])
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def facts_of_html(html: str) -> dict[str, str]:
    return dict(re.findall("<th[^>]*>([^<]*)</th><td[^>]*>([^<]*)</td>", html))


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame({"id": ["a", "b", "c"], "n": [1, 2, 3]})


@pytest.fixture(autouse=True)
def _connections_end_with_the_test() -> Any:
    yield
    connection.close_all()


@pytest.fixture
def shell() -> Any:
    made = InteractiveShell.instance()
    yield made
    made.restore_sys_module_state()
    InteractiveShell.clear_instance()


def test_a_misspelt_option_is_named_with_the_one_that_was_meant(
    client: SpooledClient, queue: str, table: pd.DataFrame
) -> None:
    calls: list[Callable[..., Any]] = [
        partial(bulk_enqueue, client=client),
        client.enqueue_batch,
        client.plan_batch,
    ]
    for call in calls:
        with pytest.raises(InvalidArgumentError, match="no option 'kye'; did you mean 'key'"):
            call(table, queue, kye="id")
    opened = client.open_batch("in parts", queue)
    with pytest.raises(InvalidArgumentError, match="no option 'on_lossi'; did you mean 'on_lossy'"):
        opened.add("first", table, on_lossi="null")  # type: ignore[call-arg]


def test_watch_says_what_it_takes_where_it_is_given_an_id() -> None:
    with pytest.raises(InvalidArgumentError, match=r"batch\('b_…'\), got 'first try'"):
        watch("first try")  # type: ignore[arg-type]


def test_the_summary_shows_what_was_created_and_how_to_go_on(
    client: SpooledClient, queue: str, table: pd.DataFrame, server: ServerProcess
) -> None:
    enqueued = bulk_enqueue(table, queue, client=client, key="id", name="first try")
    for shown in (pretty(enqueued), enqueued._repr_html_()):
        assert enqueued.id in shown
        assert "first try" in shown
        assert "watch(" in shown
        assert server.api_key not in shown
    assert facts(pretty(enqueued))["created"] == "3"
    assert facts_of_html(enqueued._repr_html_())["created"] == "3"


def test_the_same_rows_again_make_no_second_job_and_the_summary_says_so(
    client: SpooledClient, queue: str, table: pd.DataFrame
) -> None:
    bulk_enqueue(table, queue, client=client, key="id")
    again = bulk_enqueue(table[::-1], queue, client=client, key="id")
    assert (again.created, again.duplicates) == (0, 3)
    assert "nothing was enqueued twice" in pretty(again)
    assert "nothing was enqueued twice" in again._repr_html_()
    assert client.queue_stats(queue).total == 3


def test_changed_rows_are_in_the_plan_and_the_card(
    client: SpooledClient,
    queue: str,
    table: pd.DataFrame,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = bulk_enqueue(table, queue, client=client, key="id")
    assert "changed" not in facts(pretty(first))
    table.loc[1, "n"] = 7
    capsys.readouterr()
    again = bulk_enqueue(table, queue, client=client, key="id")
    assert facts(capsys.readouterr().out)["changed"] == "1 (another payload than their job)"
    assert facts(pretty(again))["changed"] == "1 (their jobs keep the payload they had)"
    assert 'on_changed="replace"' in pretty(again)
    replaced = bulk_enqueue(table, queue, client=client, key="id", on_changed="replace")
    assert facts(pretty(replaced))["changed"] == "1 (1 replaced)"


def test_rejected_rows_are_listed_by_reason(
    client: SpooledClient, queue: str, table: pd.DataFrame
) -> None:
    table.loc[1, "id"] = None
    with pytest.raises(RowsRejectedError):
        bulk_enqueue(table, queue, client=client, key="id")
    assert client.queue_stats(queue).total == 0
    enqueued = bulk_enqueue(table, queue, client=client, key="id", on_rejected="skip")
    assert facts(pretty(enqueued))["rejected"] == "1"
    assert "1 rejected: " in pretty(enqueued)
    assert "null" in enqueued._repr_html_()


def test_the_summary_links_to_the_ledger_which_outlives_the_kernel(
    client: SpooledClient, queue: str, table: pd.DataFrame, tmp_path: Path
) -> None:
    table.loc[1, "id"] = None
    path = tmp_path / "ledger.parquet"
    enqueued = bulk_enqueue(
        table, queue, client=client, key="id", on_rejected="skip", ledger=str(path)
    )
    assert facts(pretty(enqueued))["ledger"] == str(path)
    assert f"<a href='{path}'>{path}</a>" in enqueued._repr_html_()
    assert pq.read_table(path).column("outcome").to_pylist() == ["created", "rejected", "created"]
    # Another kernel has it from what the batch is made of again.
    again = client.batch(enqueued.to_dict())
    assert again.ledger.equals(enqueued.ledger)


def test_the_ledger_names_rows_that_stopped_the_call(
    client: SpooledClient, queue: str, table: pd.DataFrame, tmp_path: Path
) -> None:
    table.loc[1, "id"] = None
    with pytest.raises(RowsRejectedError, match=r"listed in .*ledger\.parquet"):
        bulk_enqueue(table, queue, client=client, key="id", ledger=tmp_path / "ledger.parquet")
    (refused,) = pq.read_table(tmp_path / "ledger.parquet").to_pylist()
    assert (refused["row"], refused["outcome"]) == (1, "rejected")


def test_a_server_that_is_not_local_needs_a_yes_for_any_new_job(
    tmp_path: Path, table: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    # An address of this machine that is none of those known to be its own.
    with (
        ServerProcess(tmp_path / "jobs.db", host="127.0.0.2") as server,
        SpooledClient(server.address, api_key=server.api_key, tls=False) as client,
    ):
        with pytest.raises(ConfirmationNeededError, match="is not on this machine") as needed:
            bulk_enqueue(table, "orders", client=client, key="id")
        assert server.address in needed.value.message
        assert "confirm=True" in needed.value.message
        assert needed.value.plan.created == 3
        # What it is that has to be confirmed was shown before.
        assert f"queue orders on {server.address}" in capsys.readouterr().out
        assert client.queue_stats("orders").total == 0
        assert bulk_enqueue(table, "orders", client=client, key="id", confirm=True).created == 3
        # Nothing new, so nothing to say yes to.
        assert bulk_enqueue(table, "orders", client=client, key="id").duplicates == 3


def test_what_comes_from_the_data_cannot_become_html(
    client: SpooledClient, queue: str, table: pd.DataFrame
) -> None:
    enqueued = bulk_enqueue(table, queue, client=client, name="<script>alert(1)</script>")
    assert "<script>" not in enqueued._repr_html_()


def test_watch_follows_to_the_end_and_shows_failures_instead_of_raising(
    client: SpooledClient, queue: str, table: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    enqueued = bulk_enqueue(table, queue, client=client, key="id")

    def handler(job: Any) -> None:
        if job.payload["n"] == 2:
            raise Discard("no twos")

    with Worker(client, queue, handler):
        stats = watch(enqueued).stats
    assert (stats.settled, stats.completed, stats.failed) == (True, 2, 1)
    assert "1 failed" in capsys.readouterr().err
    again = watch(enqueued)
    assert (again.stats, again.running) == (stats, False)
    assert "1 × no twos" in repr(again)
    assert enqueued.wait(max_failed=1) == stats
    assert sorted(enqueued.results().column("status").to_pylist()) == [
        "completed",
        "completed",
        "deadletter",
    ]


async def test_it_works_while_an_event_loop_runs(
    client: SpooledClient, queue: str, table: pd.DataFrame
) -> None:
    assert asyncio.get_running_loop().is_running()
    assert bulk_enqueue(table, queue, client=client).created == 3


def test_without_address_and_environment_a_server_of_its_own_keeps_the_jobs_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: pd.DataFrame
) -> None:
    monkeypatch.chdir(tmp_path)
    enqueued = bulk_enqueue(table, "orders", key="id")
    assert str(tmp_path / "spooled.db") in pretty(enqueued)
    assert (tmp_path / "spooled.db").exists()
    # The next cell talks to the same server, and the next kernel finds the jobs.
    assert bulk_enqueue(table, "orders", key="id").client is enqueued.client
    connection.close_all()
    assert bulk_enqueue(table, "orders", key="id").duplicates == 3


def test_the_environment_names_the_server(
    server: ServerProcess,
    client: SpooledClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    queue: str,
    table: pd.DataFrame,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPOOLED_GRPC_ADDRESS", server.address)
    with pytest.raises(AuthenticationError, match="SPOOLED_API_KEY"):
        bulk_enqueue(table, queue)
    monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)
    assert bulk_enqueue(table, queue).created == 3
    assert client.queue_stats(queue).total == 3
    assert not list(tmp_path.iterdir())


def test_the_magic_enqueues_a_variable(
    shell: InteractiveShell,
    server: ServerProcess,
    client: SpooledClient,
    monkeypatch: pytest.MonkeyPatch,
    queue: str,
    table: pd.DataFrame,
) -> None:
    monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)
    shell.run_line_magic("load_ext", "spooled_pipelines.notebook")
    shell.user_ns["df"] = table
    line = f"df -q {queue} --key id -p 7 --address {server.address}"
    enqueued = shell.run_line_magic("enqueue", line)
    assert enqueued.created == 3
    assert client.dequeue(queue, "test")[0].priority == 7
    again = shell.run_line_magic(
        "enqueue", f"'df.iloc[0:2]' -q {queue} -k id --address {server.address}"
    )
    assert again.duplicates == 2


@pytest.mark.parametrize(
    "line", ["", "df", "df -q", "df -q q --nope", "df -q 'q", "df -q q -p high"]
)
def test_a_wrong_line_says_how_it_is_written(shell: InteractiveShell, line: str) -> None:
    shell.run_line_magic("load_ext", "spooled_pipelines.notebook")
    with pytest.raises(UsageError, match="%enqueue"):
        shell.run_line_magic("enqueue", line)
