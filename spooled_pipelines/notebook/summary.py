"""What `bulk_enqueue` gives back: the batch, and a small table about it."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import TYPE_CHECKING, Any

from spooled_pipelines import Batch, BatchStats, SpooledClient

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

    def __init__(self, batch: Batch, client: SpooledClient, note: str = "") -> None:
        self.batch = batch
        self.client = client
        self.note = note

    @property
    def id(self) -> str:
        return self.batch.id

    def stats(self) -> BatchStats:
        """Where the batch stands now."""
        return self.batch.stats()

    def wait(self, timeout: float | None = None, max_failed: float = 0) -> BatchStats:
        """Block until each job is settled; see `Batch.wait`."""
        return self.batch.wait(timeout=timeout, max_failed=max_failed)

    def results(self) -> pa.Table:
        """What came of the jobs, one row each; `.to_pandas()` makes a DataFrame of it."""
        return self.batch.results()

    def __repr__(self) -> str:
        lines = [f"{label}: {value}" for label, value in self._facts()]
        return "\n".join([*lines, *self._reasons(), *filter(None, [self._remark(), self.note])])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(label)}</th><td>{escape(value)}</td></tr>"
            for label, value in self._facts()
        )
        rest = [*self._reasons(), *filter(None, [self._remark(), self.note])]
        return f"<table>{rows}</table>" + "".join(f"<p>{escape(line)}</p>" for line in rest)

    def _facts(self) -> list[tuple[str, str]]:
        batch = self.batch
        named = f"{batch.id} ({batch.name})" if batch.name else batch.id
        return [
            ("batch", named),
            ("queue", batch.queue_name or ""),
            ("rows", f"{batch.rows:,}"),
            ("created", f"{batch.created:,}"),
            ("there already", f"{batch.duplicates:,}"),
            ("rejected", f"{batch.rejected:,}"),
            ("go on with", "watch(…), .wait(), .results()"),
        ]

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
