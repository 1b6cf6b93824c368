"""Turns of a queue's batches, within a transaction; see `core.jobs.turns`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from spooled_pipelines.server.core.jobs.turns import ROUND, Participant, length
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.transactions.transaction import Transaction

# A job's number, queue, priority, participant, and the weight of its batch.
TurnRow = tuple[int, int, int, int, int]


def take(
    tx: Transaction, queue: int, lengths: Mapping[Participant, int], *, released: bool = False
) -> dict[Participant, int]:
    """Return where each participant's next jobs begin, that are so long together."""
    firsts = {}
    for one, taken in lengths.items():
        values = (queue, one.priority, one.number, released, taken)
        (firsts[one],) = tx.connection.execute(SQL["take_turns"], values).fetchone()
    return firsts


def give_back(tx: Transaction, queue: int, lengths: Mapping[Participant, int]) -> None:
    """Take back turns of rows that made no job."""
    for one, taken in lengths.items():
        tx.connection.execute(SQL["return_turns"], (taken, one.number, queue, one.priority))


def rounds_again(tx: Transaction, rows: Iterable[TurnRow]) -> dict[int, int]:
    """Return by number the rounds of jobs that become claimable again, or only now."""
    places: dict[tuple[int, Participant], list[tuple[int, int]]] = {}
    for seq, queue, priority, participant, weight in sorted(rows):
        place = (queue, Participant(priority, participant))
        places.setdefault(place, []).append((seq, length(weight)))
    found = {}
    for (queue, one), jobs in places.items():
        taken = {one: sum(job_length for _, job_length in jobs)}
        at = take(tx, queue, taken, released=True)[one]
        for seq, job_length in jobs:
            found[seq] = at // ROUND
            at += job_length
    return found


def give_again(tx: Transaction, seqs: Sequence[int]) -> None:
    """Give jobs the rounds that have come by now."""
    rows = [tx.connection.execute(SQL["find_turn"], (seq,)).fetchone() for seq in seqs]
    for seq, number in rounds_again(tx, rows).items():
        tx.connection.execute(SQL["set_round"], (number, seq))


def note_claimed(tx: Transaction, queue: int, claimed: Iterable[tuple[int, int]]) -> None:
    """Note the rounds of claimed jobs, each with its priority, lowest first within one."""
    for priority, number in dict(claimed).items():
        tx.connection.execute(SQL["note_round"], (queue, priority, number))
