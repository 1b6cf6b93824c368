# Generated from spooled_pipelines/batch/aio/settled_results.py by `make generate`: do not edit.
"""Results while a batch is still worked on: each job once, as soon as it is settled."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from spooled_pipelines.batch.record import BatchRecord
from spooled_pipelines.batch.sync.backend import BatchBackend
from spooled_pipelines.batch.sync.service import BatchService
from spooled_pipelines.rpc.decode import job_status_from
from spooled_pipelines.rpc.sync.closing import Closing
from spooled_pipelines.rpc.sync.runtime import in_thread, monotonic, sleep
from spooled_pipelines.types import BatchStats
from spooled_pipelines.wire import batch_v1

if TYPE_CHECKING:
    import pyarrow as pa

    from spooled_pipelines.batch.outcome.known_types import KnownTypes

# Results gather for so long, so that there are not many record batches of a few rows.
_GATHER_SECONDS = 0.25


class SettledResults(Closing):
    """Record batches of a batch's results, one line for each job, as the jobs settle.

    It ends once the batch is settled and the last of its jobs was given out.
    """

    def __init__(
        self,
        service: BatchService,
        record: BatchRecord,
        after: str | None,
        types: Mapping[str, pa.DataType] | None,
        *,
        payload: bool,
    ) -> None:
        from spooled_pipelines.batch.outcome.place_set import PlaceSet

        self._service = service
        self._record = record
        self._types = types
        self._payload = payload
        self._known: KnownTypes | None = None
        # By the schemas that payloads came with.
        self._tables: dict[frozenset[int], KnownTypes] = {}
        self._given = PlaceSet() if after is None else PlaceSet.of_text(after, record.id)
        self._batches = self._run()

    @property
    def cursor(self) -> str:
        """Where it is: `as_settled(after=cursor)` goes on behind the last record batch.

        It is of this batch alone, and grows only where jobs settle in another order than theirs: to
        a bit for each job at most, in base64.
        """
        return self._given.to_text(self._record.id)

    def __iter__(self) -> SettledResults:
        return self

    def __next__(self) -> pa.RecordBatch:
        return self._batches.__next__()

    def close(self) -> None:
        """End it. May be repeated."""
        self._batches.close()

    _close = close

    def _run(self) -> Generator[pa.RecordBatch, None]:
        backend = self._service.backend(self._record.extension)
        backend.require("keeps_batches", "as_settled()")
        given = self._given
        with closing(backend.watch(self._record, None)) as changes:
            for stats in changes:
                began = monotonic()
                if stats.settled or _settled(stats) > len(given):
                    with closing(self._round(backend, stats)) as found:
                        for record_batch in found:
                            yield record_batch
                if stats.settled:
                    break
                sleep(max(0.0, _GATHER_SECONDS - (monotonic() - began)))
        if len(given) < stats.total and given.low:
            # A row that came meanwhile may be a job of another batch, and stand before the others.
            given.low = 0
            with closing(self._round(backend, stats)) as found:
                for record_batch in found:
                    yield record_batch

    def _round(self, backend: BatchBackend, stats: BatchStats) -> Generator[pa.RecordBatch, None]:
        """Yield what is settled by now and was not given out yet."""
        given, low, all_settled = self._given, self._given.low, True
        pages = backend.job_columns(self._record, low, omit_payload=not self._payload)
        with closing(pages) as columns:
            for page in columns:
                settled = [job_status_from(status).settled for status in page.statuses]
                new = [
                    row
                    for row, place in enumerate(page.places)
                    if settled[row] and place not in given
                ]
                if all_settled:
                    # Up to the first job that is not settled there is nothing left to look for.
                    all_settled = all(settled)
                    count = len(settled) if all_settled else settled.index(False)
                    low = page.places[count - 1] if count else low
                record_batch = self._record_batch(backend, page, new) if new else None
                given.update(page.places[row] for row in new)
                given.low = low
                if record_batch is not None:
                    yield record_batch
                if not stats.settled and len(given) >= _settled(stats):
                    return

    def _record_batch(
        self, backend: BatchBackend, page: batch_v1.JobColumns, rows: list[int]
    ) -> pa.RecordBatch:
        from spooled_pipelines.batch.outcome.job_results import ResultStore
        from spooled_pipelines.batch.outcome.known_types import NOTHING_KNOWN
        from spooled_pipelines.batch.outcome.results import record_batch_of

        store = ResultStore(keeps_payloads=self._payload, infers=self._types is None)
        store.add_columns(_some(page, rows))
        if self._types is None and self._known is None:
            found = backend.result_types(self._record)
            # The first of them may be still to come.
            self._known = found if found.names else None
        came_with = frozenset(store.schemas)
        if self._payload and came_with not in self._tables:
            self._tables[came_with] = backend.table_types(store.schemas)
        known, table = self._known or NOTHING_KNOWN, self._tables.get(came_with, NOTHING_KNOWN)
        return in_thread(record_batch_of, store, self._types, known, table)


def _settled(stats: BatchStats) -> int:
    return stats.total - stats.open


def _some(page: batch_v1.JobColumns, rows: list[int]) -> batch_v1.JobColumns:
    """Return some of the jobs of a page."""
    if len(rows) == len(page.job_ids):
        return page
    some = batch_v1.JobColumns()
    for field, values in page.ListFields():
        getattr(some, field.name).extend(values[row] for row in rows)
    return some
