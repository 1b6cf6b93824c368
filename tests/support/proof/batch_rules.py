"""What happens to batches: opened, filled, begun again, sealed, listed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize

from spooled_pipelines.server.core.batches.records import (
    BatchOpening,
    Chunk,
    ChunkStored,
    ExpectedParts,
    PartRecord,
)
from spooled_pipelines.server.core.jobs.records import NewJob, Status
from spooled_pipelines.server.store.requests import BatchJobs
from tests.support.proof import model_control
from tests.support.proof.job_rules import delays, priorities, retries
from tests.support.proof.model_records import Batch, Row
from tests.support.proof.side_by_side import (
    KEYS,
    SideBySide,
    act,
    batches,
    equal,
    keys,
    organizations,
    picks,
    queues,
)

rows = st.tuples(keys, priorities, retries, delays)
# Most batches do not come in parts.
PARTS = ("x", "y")
parts = st.sampled_from(("", "", "", "", *PARTS))
generations = st.sampled_from((0, 0, 0, 0, 0, 0, 1, 1, 2))
# Nothing is replaced, what has not started, or what can be put back as well.
REPLACEABLE = (
    (),
    (Status.PENDING, Status.SCHEDULED),
    (Status.PENDING, Status.SCHEDULED, Status.DEADLETTER, Status.CANCELLED),
)
# How far behind the newest generation somebody is, or before it.
lates = st.sampled_from((0,) * 8 + (1, -1))


class BatchRules(SideBySide):
    """Batches and their rows."""

    @initialize(organization=organizations, queue=queues)
    def first_batch(self, organization: str, queue: str) -> None:
        self.open_batch(organization, "a", queue, "", 0, "", cancels=False, share=0, most=0)

    @act(
        weight=2,
        organization=organizations,
        batch=batches,
        queue=queues,
        name=st.sampled_from(("", "n")),
        generation=generations,
        part=parts,
        cancels=st.booleans(),
        share=st.sampled_from((0, 0, 0, 1, 2, 3)),
        most=st.sampled_from((0, 0, 2)),
    )
    def open_batch(
        self,
        organization: str,
        batch: str,
        queue: str,
        name: str,
        generation: int,
        part: str,
        cancels: bool,
        share: int,
        most: int,
    ) -> None:
        def opened() -> Batch:
            made = self.model.open_batch(organization, opening)
            if cancels and generation:
                model_control.cancel_batch(self.model, organization, batch, generation - 1)
            return made

        opening = BatchOpening(batch, queue, name, generation, part, cancels, weight=share)
        if most:
            opening = opening._replace(limit_by="c", limit_per_key=most)
        self.same(
            self.kit.store.open_batch(organization, opening),
            opened,
            lambda record, opened: self.compare_batch(record, organization, batch, opened),
        )

    @act(
        weight=5,
        organization=organizations,
        batch=batches,
        upload=st.sampled_from(("u", "v")),
        given=st.lists(rows, min_size=1, max_size=8),
        alike=st.booleans(),
        late=lates,
        part=parts,
        replaceable=st.sampled_from(REPLACEABLE),
        fair=st.booleans(),
        most=st.sampled_from((0, 0, 1, 2, 3)),
    )
    def add_chunk(
        self,
        organization: str,
        batch: str,
        upload: str,
        given: list[Any],
        alike: bool,
        late: int,
        part: str,
        replaceable: tuple[int, ...],
        fair: bool,
        most: int,
    ) -> None:
        """`alike`: what the first row says goes for all of them, as a single value."""
        if alike:
            given = [(key, *given[0][1:3], None) for key, *_ in given]
        jobs = [self.new_job(row, "") for row in given]
        if alike:
            said = {name: getattr(jobs[0], name) for name in ("retry_backoff", "expires_at")}
            jobs = [job._replace(**said) for job in jobs]
        one: Callable[[list[Any]], Any] = (lambda values: values[0]) if alike else list
        scheduled = [job.scheduled_at for job in jobs]
        chunk = Chunk(
            batch,
            upload,
            next(self.numbers),
            keys=[job.idempotency_key or "" for job in jobs],
            payloads=[job.payload for job in jobs],
            priorities=one([job.priority for job in jobs]),
            max_retries=one([job.max_retries for job in jobs]),
            timeout_seconds=one([job.timeout_seconds for job in jobs]),
            scheduled_at=scheduled if any(scheduled) else None,
            tags=None,
            generation=self.generation(organization, batch, late),
            part_id=part,
            retry_backoff=one([job.retry_backoff for job in jobs]),
            expires_at=one([job.expires_at for job in jobs]),
            replaceable=replaceable,
            fair_keys=[(-1, -2, None)[place % 3] for place in range(len(jobs))] if fair else None,
            limit_keys=[(-3, -3, -4, None)[place % 4] for place in range(len(jobs))]
            if most
            else None,
            limit_per_key=most,
        )
        self.send_chunk(organization, chunk, jobs)
        self.chunks.append((organization, chunk))

    @act(when=lambda self: self.chunks, pick=picks, changed=st.sampled_from((None, None, *KEYS)))
    def send_chunk_again(self, pick: int, changed: str | None) -> None:
        """The answer was lost. `changed`: a number used twice by mistake."""
        organization, chunk = self.chunks[-1 - pick % len(self.chunks)]
        sent = list(chunk.keys)
        if changed is not None:
            sent[-1] = changed
        numbers: list[Any] = [chunk.priorities, chunk.max_retries, chunk.timeout_seconds]
        columns = [[one] * len(sent) if isinstance(one, int) else one for one in numbers]
        backoff = chunk.retry_backoff
        backoffs = backoff if isinstance(backoff, list) else [backoff] * len(sent)
        expiry = chunk.expires_at
        expiries = expiry if isinstance(expiry, list) else [expiry] * len(sent)
        scheduled = chunk.scheduled_at or [None] * len(sent)
        jobs = [
            NewJob("", payload, priority, retries, seconds, due, key, None, backoff, expires)
            for payload, priority, retries, seconds, due, key, backoff, expires in zip(
                chunk.payloads, *columns, scheduled, sent, backoffs, expiries, strict=True
            )
        ]
        again = {**vars(chunk), "keys": sent}
        self.send_chunk(organization, Chunk(**again), jobs)

    @act(organization=organizations, batch=batches, late=lates, part=st.sampled_from(PARTS))
    def finish_part(self, organization: str, batch: str, late: int, part: str) -> None:
        generation = self.generation(organization, batch, late)
        kept = PartRecord(part, True, next(self.numbers))
        self.same(
            self.kit.store.finish_part(organization, batch, generation, kept),
            lambda: self.model.finish_part(organization, batch, generation, part, kept.rows),
            lambda record, _: equal(record, kept),
        )

    @act(
        weight=3,
        organization=organizations,
        batch=batches,
        late=lates,
        count=st.sampled_from((None, None, None, 0, 1, 2)),
        part_ids=st.sampled_from(((), (), (), ("x",), PARTS)),
    )
    def seal(
        self,
        organization: str,
        batch: str,
        late: int,
        count: int | None,
        part_ids: tuple[str, ...],
    ) -> None:
        generation = self.generation(organization, batch, late)
        expected = ExpectedParts(count, part_ids)
        self.same(
            self.kit.store.seal_batch(organization, batch, generation, expected),
            lambda: self.model.seal_batch(organization, batch, generation, expected),
            lambda record, sealed: self.compare_batch(record, organization, batch, sealed),
        )

    @act(
        organization=organizations,
        batch=batches,
        statuses=st.lists(st.sampled_from(tuple(Status.NAMES)), max_size=3),
        limit=st.integers(1, 4),
    )
    def list_jobs(self, organization: str, batch: str, statuses: list[int], limit: int) -> None:
        """Page by page."""
        newest = self.model.batches.get((organization, batch))
        if newest is None:
            return
        wanted = [
            job
            for job in self.model.of(organization, batch=newest)
            if not statuses or job.status in statuses
        ]
        after: int | None = 0
        while after is not None:
            query = BatchJobs(batch, statuses, after, limit)
            page = self.run(self.kit.store.jobs(organization, query))
            expected, wanted = wanted[:limit], wanted[limit:]
            for record, job in zip(page.jobs, expected, strict=True):
                self.compare_job(record, job)
            after = page.after
            assert (after is not None) == bool(wanted)

    def generation(self, organization: str, batch_id: str, late: int) -> int:
        """The newest of a batch, and by `late` another one."""
        batch = self.model.batches.get((organization, batch_id))
        return 0 if batch is None else max(batch.generation - late, 0)

    def send_chunk(self, organization: str, chunk: Chunk, jobs: list[NewJob]) -> None:
        self.same(
            self.kit.store.add_chunk(organization, chunk),
            lambda: self.model.add_chunk(organization, chunk, jobs),
            self.compare_chunk,
        )

    def compare_chunk(self, stored: ChunkStored, expected: list[Row]) -> None:
        seqs = stored.seqs
        if stored.first is not None:
            seqs = range(stored.first, stored.first + stored.rows)
        assert stored.rows == len(expected) == len(seqs)
        for seq, row in zip(seqs, expected, strict=True):
            self.name(row.job, self.kit.job_id(seq))
        places = range(len(expected))
        assert list(stored.duplicates) == [n for n in places if not expected[n].created]
        assert list(stored.changed) == [n for n in places if expected[n].changed]
        assert list(stored.replaced) == [n for n in places if expected[n].replaced]
