"""Plans of what `enqueue_batch` would do, made by the same code without a write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from spooled_pipelines.batch.encoding.rows import LimitReason
from spooled_pipelines.batch.staging.chunks import Chunk
from spooled_pipelines.batch.staging.duplicates import DuplicateIndex
from spooled_pipelines.batch.staging.staged_batch import StagedBatch
from spooled_pipelines.errors import RejectedRow
from spooled_pipelines.rpc.struct import from_struct
from spooled_pipelines.wire import spooled_v1

_SAMPLES = 3


@dataclass(frozen=True)
class BatchPlan:
    """What `enqueue_batch` would do with a table.

    Attributes:
        batch_id: of the batch that the rows would be.
        queue_name: where they would go.
        rows: of the table.
        created: jobs that would be made; all of them if the server cannot be asked for those that
            are there (`duplicates` is None).
        duplicates: rows that are jobs already; None if this server cannot be asked by key.
        changed: those of them with another payload than their job; None as well.
        repeated: rows with the key of a row before them; with `key=` they are the same job.
        rejected: rows that cannot be jobs. With `on_rejected="raise"` nothing would be sent.
        reasons: how many of them by reason.
        limits: those of the reasons that are a limit of the contract.
        examples: the first of them, at most ten.
        bytes: on the wire, without compression.
        chunks: messages that carry the rows.
        samples: the first payloads, as a worker would see them.
        seconds: how long it would take: what reading and encoding took, and the sending at the
            rate of this client's last upload; None before it has had one.
        notes: how the data was read, such as "read as text: zip, phone" for a text file.
        table_version: of a Delta or Iceberg table: the version or snapshot that was read.
    """

    batch_id: str
    queue_name: str
    rows: int
    created: int
    duplicates: int | None
    changed: int | None
    repeated: int
    rejected: int
    reasons: Mapping[str, int]
    limits: Mapping[str, int]
    examples: tuple[RejectedRow, ...]
    bytes: int
    chunks: int
    samples: tuple[dict[str, Any], ...] = field(repr=False)
    seconds: float | None
    notes: tuple[str, ...] = ()
    table_version: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON knows it."""
        jsonable = dict(self.__dict__)
        jsonable["reasons"], jsonable["limits"] = dict(self.reasons), dict(self.limits)
        jsonable["examples"] = [{"row": row.row, "reason": row.reason} for row in self.examples]
        jsonable["samples"], jsonable["notes"] = list(self.samples), list(self.notes)
        return jsonable


class PlanBuilder:
    """Counts what would be sent, chunk by chunk."""

    def __init__(self, prepared: StagedBatch) -> None:
        self._prepared = prepared
        # Without `key=` equal rows have different keys already.
        hashes = prepared.duplicates is None
        self._repeats = DuplicateIndex(prepared.row_hashes(), prepared.sendable) if hashes else None
        self._first = 0
        self._created = 0
        # None once the server cannot be asked.
        self._duplicates: int | None = 0
        self._changed: int | None = 0
        self._bytes = 0
        self._chunks = 0
        self._samples: list[dict[str, Any]] = []

    def chunks(self, generation: int) -> Iterator[Chunk]:
        """Return the chunks that would be sent as this generation."""
        return self._prepared.chunks(generation)

    def add(self, chunk: Chunk, existing: list[int] | None, changed: list[int] | None) -> None:
        """Add a chunk, and which of its rows are jobs already; None if that is not known.

        `changed` are those of them with another payload.
        """
        count = len(chunk.rows)
        new = set(range(count)).difference(existing or ())
        if self._repeats is not None:
            new.difference_update(self._repeats.repeats(self._first, count))
        self._created += len(new)
        self._duplicates = _plus(self._duplicates, existing)
        self._changed = _plus(self._changed, changed)
        self._first += count
        self._bytes += len(chunk.message())
        self._chunks += 1
        room = _SAMPLES - len(self._samples)
        self._samples.extend(_payload(row) for row in chunk.slice(0, room).requests(b""))

    def plan(self, seconds: float | None) -> BatchPlan:
        """Return the plan, once every chunk was added."""
        prepared, rejected = self._prepared, self._prepared.rejected
        reasons = dict(rejected.reasons)
        return BatchPlan(
            batch_id=prepared.batch_id,
            queue_name=prepared.scope.queue_name,
            rows=prepared.rows,
            created=self._created,
            duplicates=self._duplicates,
            changed=self._changed,
            repeated=0 if self._repeats is None else self._repeats.repeated,
            rejected=rejected.count,
            reasons=reasons,
            limits={why: n for why, n in reasons.items() if isinstance(why, LimitReason)},
            examples=tuple(rejected.examples),
            bytes=self._bytes,
            chunks=self._chunks,
            samples=tuple(self._samples),
            seconds=seconds,
            notes=prepared.notes,
            table_version=prepared.table_version,
        )

    def close(self) -> None:
        if self._repeats is not None:
            self._repeats.close()


def _plus(count: int | None, rows: list[int] | None) -> int | None:
    return None if count is None or rows is None else count + len(rows)


def _payload(request: bytes) -> dict[str, Any]:
    return from_struct(spooled_v1.EnqueueRequest.FromString(request).payload)
