# Generated from spooled_pipelines/batch/aio/open_batch.py by `make generate`: do not edit.
"""A batch that comes in parts: opened once, added to by any process, sealed when complete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from spooled_pipelines.batch.display.progress import Progress, ProgressOption, check_progress
from spooled_pipelines.batch.flow_control import check_max_outstanding
from spooled_pipelines.batch.options.row_options import (
    OnRerun,
    PartOptions,
    RowOptions,
    check_names,
    shows_options,
)
from spooled_pipelines.batch.outcome.ledger import Ledger, PartLedgers
from spooled_pipelines.batch.parts import (
    AddedPart,
    BatchPart,
    ExpectedParts,
    options_from_dict,
    options_to_dict,
    parse_expected_parts,
    parse_part_id,
)
from spooled_pipelines.batch.record import BatchRecord
from spooled_pipelines.batch.staging.idempotency import KeyScope, batch_id
from spooled_pipelines.batch.staging.prepare import prepare
from spooled_pipelines.batch.staging.staged_batch import StagedBatch
from spooled_pipelines.batch.sync.backend import BatchBackend, BatchStart, Upload
from spooled_pipelines.batch.sync.batch import Batch
from spooled_pipelines.batch.sync.enqueue import check_rerun
from spooled_pipelines.batch.sync.service import BatchService
from spooled_pipelines.batch.sync.upload import refuse_changed, upload, with_trace_context
from spooled_pipelines.errors import ConflictError, InvalidArgumentError
from spooled_pipelines.rpc import tracing, validation
from spooled_pipelines.rpc.sync.runtime import in_thread
from spooled_pipelines.types import QueueStats

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from spooled_pipelines.batch.options.row_options import JobOptions


class OpenBatch:
    """A batch to which parts are added, here and in other processes, until it is sealed.

    Attributes:
        id: the batch's id; `client.batch(id)` is the batch itself, also before it is sealed.
        queue_name: where the jobs go.
        name: of the batch.
        generation: which of the batch's generations the parts are of.
        retried: dead letters that opening it retried (`on_rerun`).
    """

    def __init__(
        self,
        service: BatchService,
        backend: BatchBackend,
        scope: KeyScope,
        options: JobOptions,
        start: BatchStart,
        client: Any = None,
    ) -> None:
        self.id = batch_id(scope, 0, 0)
        self.queue_name = scope.queue_name
        self.name = scope.name or ""
        self.generation = start.generation or 0
        self.retried = start.retried
        self._service = service
        self._backend = backend
        self._options = options
        self._key_name = scope.key_name
        self._start = start
        self._client = client
        self._added: dict[str, AddedPart] = {}
        # For a server that keeps no batches: only this object knows the jobs.
        self._ledgers: dict[str, Ledger] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.name!r} on {self.queue_name!r}>"

    @shows_options(PartOptions)
    def add(
        self,
        part_id: str | int,
        data: Any,
        *,
        progress: ProgressOption = None,
        max_outstanding: int | None = None,
        **options: Unpack[PartOptions],
    ) -> AddedPart:
        """Make each row of a part a job; the same part again enqueues no row twice.

        It may be added by anybody, again and by several at once, with its rows in any order. With
        `key=` it does not matter either how the table was cut into parts; without it a row is one
        of its part, so that a later run has to cut the table into the same ones. A part may have
        no rows.

        Args:
            part_id: what the part is called, 1 to 255 characters, or a number.
            data: whatever `enqueue_batch` takes.
            progress: as of `enqueue_batch`.
            max_outstanding: rows are sent only while fewer of the batch's jobs than these are
                unsettled, of whichever part. Parts that are added at the same time do not see what
                the others are about to send: N of them leave at most N times as many. On a server
                without the batch extension it is the part's own jobs that count.
            **options: as of `enqueue_batch`; by default those of `open_batch`.
                `rate` is of this part alone.

        Raises:
            RowsRejectedError, LossyValueError, InvalidArgumentError: as `enqueue_batch`; the part
                is not finished.
            ConflictError: the batch has a new generation (`on_rerun="fresh"`) since it was opened.
        """
        part_id = parse_part_id(part_id)
        check_progress(progress)
        check_max_outstanding(max_outstanding)
        check_names(options, PartOptions)
        merged: dict[str, Any] = {**self._options, **options}
        chosen = RowOptions(**merged, name=self.name, part_id=part_id)
        staged = in_thread(prepare, data, self.queue_name, chosen, key_name=self._key_name)
        try:
            with tracing.sending(self.queue_name, rows=staged.sendable, batch_id=self.id):
                return self._send(part_id, with_trace_context(staged), progress, max_outstanding)
        finally:
            staged.close()

    def seal(
        self,
        expected_parts: ExpectedParts = None,
        *,
        added: Iterable[AddedPart | Mapping[str, Any]] = (),
    ) -> Batch:
        """Seal the batch, after its last part; until then it does not count as complete.

        Args:
            expected_parts: how many parts there are, or their ids; None: those that have begun.
            added: what `add` returned elsewhere, or its `to_dict()`. A server without the batch
                extension does not know of it; with it, it is for the counts of the result alone.

        Raises:
            PartsMissingError: some parts are not in, and it names them; or there are more than
                expected.
            ConflictError: the batch has a new generation since it was opened.
        """
        count, part_ids = parse_expected_parts(expected_parts)
        known = {**self._added, **self._elsewhere(added)}
        self._backend.seal(self.id, self.generation, added=known, count=count, part_ids=part_ids)
        return self._sealed(known, count, part_ids)

    def parts(self) -> list[BatchPart]:
        """Return the parts that were started, in the order of their ids.

        Of a server without the batch extension: those that were added here.
        """
        return self._backend.parts(self.id, self._added)

    def to_dict(self) -> dict[str, Any]:
        """Return a small dict from which `client.open_batch` makes it again in another process.

        Raises:
            InvalidArgumentError: JSON cannot hold an option.
        """
        made: dict[str, Any] = {
            "name": self.name,
            "queue_name": self.queue_name,
            "generation": self.generation,
            "extension": self._backend.keeps_batches,
            "options": options_to_dict(self._options),
        }
        if self._key_name not in (None, self.queue_name):
            made["key_name"] = self._key_name
        if self._start.queue_before is not None:
            made["queue_before"] = asdict(self._start.queue_before)
        return made

    def _send(
        self,
        part_id: str,
        staged: StagedBatch,
        progress: ProgressOption,
        max_outstanding: int | None,
    ) -> AddedPart:
        self._backend.require_for(staged)
        if staged.on_changed == "raise":
            refuse_changed(self._backend, staged, self.generation)
        ledger = Ledger()
        bar = Progress(progress, staged.sendable, self.queue_name)
        sending = Upload(staged, ledger, bar, self.generation, max_outstanding=max_outstanding)
        if not self._backend.keeps_batches:
            self._ledgers[part_id] = ledger
        self._service.rows_per_second = upload(self._backend, sending)
        says = self._backend.keeps_batches
        added = AddedPart(
            part_id,
            self.id,
            staged.rows,
            ledger.created,
            ledger.duplicates,
            ledger.rejected,
            ledger.changed if says else None,
            ledger.replaced if says else None,
        )
        self._added[part_id] = added
        return replace(added, _ledger=ledger)

    def _elsewhere(self, added: Iterable[AddedPart | Mapping[str, Any]]) -> dict[str, AddedPart]:
        found = {}
        for one in added:
            part = one if isinstance(one, AddedPart) else AddedPart.from_dict(one)
            if part.batch_id != self.id:
                raise InvalidArgumentError(
                    f"added= has part {part.part_id!r} of batch {part.batch_id}, and this is "
                    f"batch {self.id}"
                )
            found[part.part_id] = part
        return found

    def _sealed(
        self, known: Mapping[str, AddedPart], count: int | None, part_ids: Sequence[str]
    ) -> Batch:
        """Return the batch, with its counts if every part of it is known here."""
        every = set(part_ids) <= known.keys() if part_ids else len(known) == count
        parts = known.values() if every else ()
        says = self._backend.keeps_batches
        ledgers = dict(self._ledgers) if known.keys() == self._ledgers.keys() else {}
        record = BatchRecord(
            self.id,
            queue_name=self.queue_name,
            name=self.name,
            rows=sum(part.rows for part in parts) if every else None,
            created=sum(part.created for part in parts) if every else None,
            duplicates=sum(part.duplicates for part in parts) if every else None,
            rejected=sum(part.rejected for part in parts) if every else None,
            changed=sum(part.changed or 0 for part in parts) if every and says else None,
            replaced=sum(part.replaced or 0 for part in parts) if every and says else None,
            generation=self._start.generation,
            retried=self.retried,
            extension=self._backend.keeps_batches,
            queue_before=self._start.queue_before,
            ledger=PartLedgers(ledgers) if ledgers else None,
        )
        return Batch(self._service, record, self._client)


def open_batch(
    service: BatchService,
    name: str,
    queue_name: str,
    options: JobOptions,
    on_rerun: OnRerun = "resume",
    client: Any = None,
) -> OpenBatch:
    """Create a batch that comes in parts, or find it; see `OpenBatch`.

    Raises:
        InvalidArgumentError: an argument is wrong.
        SpooledError: the server cannot be reached or refuses.
    """
    if name is None:
        raise InvalidArgumentError(
            "a batch that comes in parts needs a name, by which it is found again"
        )
    scope = KeyScope(validation.queue_name(queue_name), name)
    check_names(options, PartOptions)
    check_rerun(service, on_rerun)
    scope = replace(scope, key_name=service.key_name(queue_name))
    backend = service.backend()
    try:
        start = backend.open(scope, on_rerun)
    except ConflictError:
        service.forget_key_names()
        raise
    return OpenBatch(service, backend, scope, options, start, client)


def open_batch_from_dict(
    service: BatchService, values: Mapping[str, Any], client: Any = None
) -> OpenBatch:
    """Return what `OpenBatch.to_dict` described; the parts added there are not known.

    Raises:
        InvalidArgumentError: the dict is not one of an open batch.
    """
    wanted = ("name", "queue_name", "generation", "extension", "options")
    if not set(wanted) <= set(values):
        raise InvalidArgumentError(
            f"the dict of an open batch must have {', '.join(wanted)}, got "
            f"{sorted(map(str, values))}: pass what OpenBatch.to_dict() returned"
        )
    before = values.get("queue_before")
    start = BatchStart(
        values["generation"] if values["extension"] else None,
        queue_before=None if before is None else QueueStats(**before),
    )
    options: Any = options_from_dict(values["options"])
    scope = KeyScope(values["queue_name"], values["name"], key_name=values.get("key_name"))
    backend = service.backend(values["extension"])
    return OpenBatch(service, backend, scope, options, start, client)
