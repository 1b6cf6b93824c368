"""What `bulk_enqueue` gives back: the batch, and a small table about it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from spooled_pipelines import Batch, BatchStats, SpooledClient
from spooled_pipelines.notebook.html_card import Card

if TYPE_CHECKING:
    import pyarrow as pa

# A notebook is read, not searched: the most frequent reasons are enough.
_REASONS_SHOWN = 5


class Enqueued:
    """A batch that was just enqueued. Shows itself as a table, and can be waited for.

    Attributes:
        batch: the `Batch`.
        client: the client it was sent with, for a `Worker` in the same notebook.
        note: where the jobs went, if nobody had said so.
    """

    def __init__(
        self, batch: Batch, client: SpooledClient, note: str = "", *, ledger: Any = None
    ) -> None:
        self.batch = batch
        self.client = client
        self.note = note
        self._ledger_path = ledger

    @property
    def id(self) -> str:
        return self.batch.id

    @property
    def ledger(self) -> pa.Table:
        """What became of each row: row, key, job_id, outcome, reason; see `Batch.ledger`."""
        return self.batch.ledger

    def stats(self) -> BatchStats:
        """Where the batch stands now."""
        return self.batch.stats()

    def wait(self, timeout: float | None = None, max_failed: float = 0) -> BatchStats:
        """Block until each job is settled; see `Batch.wait`."""
        return self.batch.wait(timeout=timeout, max_failed=max_failed)

    def results(self) -> pa.Table:
        """What came of the jobs, one row each; `.to_pandas()` makes a DataFrame of it."""
        return self.batch.results()

    def plot(self) -> Any:
        """Jobs by status over time, and how long they took; see `Batch.plot`."""
        return self.batch.plot()

    def retry_failed(self, where: str | None = None) -> int:
        """Put dead letters back into the queue; see `Batch.retry_failed`."""
        return self.batch.retry_failed(where)

    def __repr__(self) -> str:
        return self._card().text()

    def _repr_html_(self) -> str:
        return self._card().html()

    def _card(self) -> Card:
        batch = self.batch
        named = f"{batch.id} ({batch.name})" if batch.name else batch.id
        facts = [
            ("batch", named),
            ("queue", batch.queue_name or ""),
            ("rows", f"{batch.rows:,}"),
            ("created", f"{batch.created:,}"),
            ("there already", f"{batch.duplicates:,}"),
            ("rejected", f"{batch.rejected:,}"),
            *([("put back", f"{batch.retried:,} dead letters")] if batch.retried else []),
            ("ledger", str(self._ledger_path or ".ledger: a line for each row")),
            ("go on with", "watch(…), .wait(), .results().to_pandas(), .plot()"),
        ]
        return Card(
            "Enqueued",
            facts,
            [*self._reasons(), *filter(None, [self._remark(), self.note])],
            link=None if self._ledger_path is None else ("ledger", str(self._ledger_path)),
        )

    def _reasons(self) -> list[str]:
        """Why rows were rejected, the most frequent reason first."""
        if not self.batch.rejected or self.batch.ledger is None:
            return []
        import pyarrow.compute as pc

        ledger = self.batch.ledger
        rejected: Any = ledger.filter(pc.equal(ledger.column("outcome"), "rejected"))
        counted = Counter(rejected.column("reason").to_pylist())
        return [
            f"{count:,} rejected: {reason}" for reason, count in counted.most_common(_REASONS_SHOWN)
        ]

    def _remark(self) -> str:
        if self.batch.rows and not self.batch.created and self.batch.duplicates:
            return "Each of these rows was a job already: nothing was enqueued twice."
        return ""
