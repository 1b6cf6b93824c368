"""Any table, in any form: what arrives is equal, or is refused with its column and row."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings

import spooled_pipelines
from spooled_pipelines import SpooledClient
from spooled_pipelines.errors import InvalidArgumentError, LossyValueError, SpooledError
from tests.support.arrow_strategies import Lossy
from tests.support.table_forms import Form, forms

UNHURRIED = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    deadline=None,
    database=None,
)


_tables = itertools.count()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpooledClient]:
    folder = tmp_path_factory.mktemp("server")
    with spooled_pipelines.connect(f"embedded:{folder}/spooled.db") as connected:
        yield connected


def arrives(client: SpooledClient, form: Form) -> str:
    """Send a table, compare each row with what is expected of it, and return what happened."""
    # A server has room for 10,000 queues; a name of its own lets equal rows be other jobs.
    queue, name = f"any-table-{next(_tables) % 5_000}", uuid4().hex
    expected = list(map(_payload_or_none, form.expected))
    lossy = {row for row, payload in enumerate(expected) if payload is None}
    try:
        batch = client.enqueue_batch(form.data, queue, name=name)
    except (LossyValueError, InvalidArgumentError) as error:
        _check_refusal(error, lossy, form)
        return "refused"
    finally:
        if isinstance(form.data, Path):
            form.data.unlink()
    assert not lossy
    payloads = {}
    while jobs := client.dequeue(queue, "worker", batch_size=100):
        payloads.update({job.id: job.payload for job in jobs})
    assert [payloads[job_id] for job_id in batch.ledger["job_id"].to_pylist()] == expected
    return "arrived"


def _payload_or_none(read: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    try:
        return read()
    except Lossy:
        return None


def _check_refusal(error: SpooledError, lossy: set[int], form: Form) -> None:
    """A refusal names the column, and a row (or the rows read with it) that has no payload."""
    named = re.search(r"""column ['"].*['"], rows? (\d+)(?: to (\d+))?""", error.message, re.DOTALL)
    assert named, error.message
    rows = set(range(int(named[1]), int(named[2] or named[1]) + 1))
    assert form.may_refuse or lossy & rows, error.message


def prove(client: SpooledClient, folder: Path, examples: int) -> Counter[str]:
    """Send random tables; return how many of each kind arrived or were refused."""
    done: Counter[str] = Counter()

    @settings(UNHURRIED, max_examples=examples)
    @given(forms(folder))
    def any_table(form: Form) -> None:
        done[f"{form.kind} {arrives(client, form)}"] += 1

    any_table()
    return done


def test_any_table_arrives_as_it_is_or_is_refused_by_name(
    client: SpooledClient, tmp_path: Path
) -> None:
    assert prove(client, tmp_path, 60).total() >= 60


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_twenty_thousand_tables_arrive_as_they_are_or_are_refused_by_name(
    client: SpooledClient, tmp_path: Path
) -> None:
    examples = int(os.environ.get("SPOOLED_PROOF_TABLES", "20000"))
    until = time.monotonic() + float(os.environ.get("SPOOLED_PROOF_SECONDS", "inf"))
    done: Counter[str] = Counter()
    while done.total() < examples and time.monotonic() < until:
        done += prove(client, tmp_path, min(500, examples - done.total()))
        print(f"{done.total()} tables: {dict(sorted(done.items()))}", flush=True)
