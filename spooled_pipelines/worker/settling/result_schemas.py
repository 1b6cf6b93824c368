"""The types of results: those of a batch's first are kept with it, and the others have to fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.errors import NotFoundError, SpooledError
from spooled_pipelines.wire import batch_v1
from spooled_pipelines.wire.methods import BATCH
from spooled_pipelines.worker.clock import Clock
from spooled_pipelines.worker.jobs.lease_table import LeasedJob
from spooled_pipelines.worker.jobs.outcome import Completed, Failed, rejected_result
from spooled_pipelines.worker.retry import Backoff, is_transient

# Of 64 KiB at most.
_KEPT = 1_000


class ResultSchemas:
    """The schemas that are kept, by the number of the schema that a batch's payloads have."""

    def __init__(self, client: AsyncSpooledClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._kept: dict[int, bytes] = {}

    def unknown(self, jobs: Iterable[LeasedJob]) -> dict[int, LeasedJob]:
        """Return a job of each batch of which the server has to be asked, with types of its own."""
        return {
            leased.schema_number: leased
            for leased in jobs
            if type(leased.outcome) is Completed
            and leased.outcome.types is not None
            and leased.schema_number not in self._kept
        }

    async def learn(self, unknown: dict[int, LeasedJob]) -> None:
        """Let the server keep the types of these jobs' results, unless it has some already."""
        for number, leased in unknown.items():
            outcome = leased.outcome
            types = outcome.types if isinstance(outcome, Completed) else None
            if types is None:
                continue
            if len(self._kept) >= _KEPT:
                self._kept = {}
            try:
                self._kept[number] = await self._keep(leased.job_id, types)
            except NotFoundError:
                # The job is gone, as the answer to its outcome says as well.
                self._kept[number] = types

    def refuse_misfits(self, jobs: Sequence[LeasedJob]) -> None:
        """Fail the jobs whose results are not of the types that are kept."""
        if not self._kept:
            return
        # Loads pyarrow.
        from spooled_pipelines.batch.values.result_types import always_fits, why_misfit

        for leased in jobs:
            outcome = leased.outcome
            if not isinstance(outcome, Completed) or outcome.encoded is None:
                continue
            kept = self._kept.get(leased.schema_number)
            if kept is None or outcome.types == kept:
                continue
            if outcome.types is not None and always_fits(kept, outcome.types):
                continue
            reason = why_misfit(kept, outcome.types, outcome.encoded)
            if reason is not None:
                leased.outcome = rejected_result(f"the result does not fit: {reason}")

    async def _keep(self, job_id: str, types: bytes) -> bytes:
        request = batch_v1.KeepResultSchemaRequest(job_id=job_id, schema=types)
        backoff = Backoff(0.05, 5.0)
        while True:
            try:
                method = BATCH["KeepResultSchema"]
                answer = await self._client.connection.unary(method, request, repeatable=True)
            except SpooledError as error:  # noqa: PERF203 - tried until the server is back
                if not is_transient(error):
                    raise
                await self._clock.sleep(backoff.after(error))
            else:
                kept: bytes = answer.schema
                return kept


def fail_all(jobs: Iterable[LeasedJob], error: SpooledError) -> None:
    """Fail jobs with results whose types the server refused to keep."""
    for leased in jobs:
        if isinstance(leased.outcome, Completed) and leased.outcome.types is not None:
            text = f"the types of the result cannot be kept: {error}"
            leased.outcome = Failed(text, retry=True, error_type=type(error).__name__)
