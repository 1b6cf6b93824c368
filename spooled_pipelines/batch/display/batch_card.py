"""The card that shows a batch in a notebook: what its enqueue did, and how to go on."""

from __future__ import annotations

from collections import Counter
from typing import Any

from spooled_pipelines.batch.display.html_card import Card
from spooled_pipelines.batch.record import BatchRecord

# A notebook is read, not searched: the most frequent reasons are enough.
_REASONS_SHOWN = 5


def batch_card(record: BatchRecord, server: str | None) -> Card:
    """Return the card of a batch; `server` is the address where it is, if it is known."""
    facts = [("batch", f"{record.id} ({record.name})" if record.name else record.id)]
    if record.queue_name:
        facts.append(("queue", record.queue_name))
    if server is not None:
        facts.append(("server", server))
    if record.rows is None:
        return Card("Batch", facts)
    facts += [
        ("rows", f"{record.rows:,}"),
        ("created", f"{record.created:,}"),
        ("duplicates", f"{record.duplicates:,}"),
        ("rejected", f"{record.rejected:,}"),
    ]
    if record.changed:
        facts.insert(-1, ("changed", changed_text(record.changed, record.replaced or 0)))
    if record.retried:
        facts.append(("retried", f"{record.retried:,} dead letters"))
    facts += [
        ("ledger", record.ledger_path or ".ledger: a line for each row"),
        ("next", "watch(…), .wait(), .results().to_pandas(), .plot()"),
    ]
    lines = [*record.notes, *_reasons(record)]
    if record.rows and not record.created and record.duplicates:
        lines.append("Each of these rows was a job already: nothing was enqueued twice.")
    if record.changed and not record.replaced:
        lines.append('on_changed="replace" gives jobs that have not started the new payload.')
    link = None if record.ledger_path is None else ("ledger", record.ledger_path)
    return Card("Enqueued", facts, lines, link=link)


def changed_text(changed: int, replaced: int) -> str:
    """Return how many rows have another payload than their job had, and whether it got it."""
    if not replaced:
        return f"{changed:,} (their jobs keep the payload they had)"
    kept = changed - replaced
    return f"{changed:,} ({replaced:,} replaced{f', {kept:,} had started' if kept else ''})"


def _reasons(record: BatchRecord) -> list[str]:
    """Return why rows were rejected, the most frequent reason first."""
    ledger = record.open_ledger() if record.rejected else None
    if ledger is None:
        return []
    import pyarrow.compute as pc

    counted: Counter[str] = Counter()
    for batch in ledger.reader():
        rejected: Any = batch.filter(pc.equal(batch.column("outcome"), "rejected"))
        counted.update(rejected.column("reason").to_pylist())
    return [
        f"{count:,} rejected: {reason}" for reason, count in counted.most_common(_REASONS_SHOWN)
    ]
