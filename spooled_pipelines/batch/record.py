"""What is known of a batch, in plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.types import QueueStats

if TYPE_CHECKING:
    from spooled_pipelines.batch.outcome.ledger import AnyLedger
    from spooled_pipelines.batch.outcome.v1_stats import JobTracker

_PLAIN = (
    *("queue_name", "name", "rows", "created", "duplicates", "changed", "replaced", "rejected"),
    *("generation", "retried", "extension"),
)


@dataclass
class BatchRecord:
    """A batch as one client knows it.

    Attributes:
        id: the batch's id.
        queue_name, name: None if only the id is known.
        rows, created, duplicates, rejected: counts of the enqueue; None if it happened elsewhere.
        changed, replaced: the same, and None for a server without the extension.
        generation: the generation that was enqueued; None if it is not known.
        retried: dead letters that the enqueue retried.
        extension: whether the server has the batch extension; None if it was not asked yet.
        queue_before: the queue's statistics before the enqueue, from a server without the
            extension.
        ledger_path: where the ledger is kept.
        table_version: of a Delta or Iceberg table: the version or snapshot that was read.
        notes: what people should know of how the data was read.
    """

    id: str
    queue_name: str | None = None
    name: str | None = None
    rows: int | None = None
    created: int | None = None
    duplicates: int | None = None
    rejected: int | None = None
    changed: int | None = None
    replaced: int | None = None
    generation: int | None = None
    retried: int = 0
    extension: bool | None = None
    queue_before: QueueStats | None = None
    ledger_path: str | None = None
    table_version: int | None = None
    notes: tuple[str, ...] = field(default=(), repr=False)
    ledger: AnyLedger | None = field(default=None, repr=False)
    # What is known of the batch's jobs, for a server without the extension.
    tracker: JobTracker | None = field(default=None, repr=False)

    def open_ledger(self) -> AnyLedger | None:
        """Return the ledger, from its file if need be; None if there is none."""
        if self.ledger is None and self.ledger_path is not None:
            # Loads pyarrow, which waiting does without.
            from spooled_pipelines.batch.outcome.ledger import LedgerFile

            self.ledger = LedgerFile(self.ledger_path)
        return self.ledger

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON knows it, without what is bound to this process."""
        values: dict[str, Any] = {"batch_id": self.id}
        values.update({name: getattr(self, name) for name in _PLAIN})
        if self.ledger_path is not None:
            values["ledger"] = self.ledger_path
        if self.table_version is not None:
            values["table_version"] = self.table_version
        if self.queue_before is not None:
            values["queue_before"] = asdict(self.queue_before)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BatchRecord:
        """Return the record that `to_dict` described.

        Raises:
            InvalidArgumentError: the dict is not one of a batch.
        """
        batch_id = values.get("batch_id")
        if not isinstance(batch_id, str) or not batch_id:
            raise InvalidArgumentError(
                f"the dict of a batch must have a 'batch_id', got {sorted(map(str, values))}: "
                "pass what Batch.to_dict() returned"
            )
        before = values.get("queue_before")
        return cls(
            batch_id,
            **{name: values[name] for name in _PLAIN if values.get(name) is not None},
            queue_before=None if before is None else QueueStats(**before),
            ledger_path=values.get("ledger"),
            table_version=values.get("table_version"),
        )
