"""The Arrow schemas that payloads came with: each is asked for once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from spooled_pipelines.batch.values.row_schema import row_schema
from spooled_pipelines.errors import SpooledError
from spooled_pipelines.rpc.aio.connection import AsyncConnection
from spooled_pipelines.types import RowSchema
from spooled_pipelines.wire import batch_v1, spooled_v1
from spooled_pipelines.wire.methods import BATCH

# Of 64 KiB at most.
_KEPT = 256


class AsyncPayloadSchemas:
    """Schemas by the numbers that jobs on the wire have."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._known: dict[int, RowSchema] = {}

    async def of(self, jobs: Iterable[spooled_v1.Job]) -> Mapping[int, RowSchema]:
        """Return the schemas of these jobs, and maybe of others; a job without one has none."""
        return await self.named((job.schema_id, job.id) for job in jobs)

    async def named(self, jobs: Iterable[tuple[int, str]]) -> Mapping[int, RowSchema]:
        """Return the same; of each job its schema's number and its id."""
        found = self._known
        for number, job_id in jobs:
            if number and number not in found:
                if len(found) >= _KEPT:
                    found = self._known = {}
                found[number] = await self._ask(job_id)
        return found

    async def _ask(self, job_id: str) -> RowSchema:
        request = batch_v1.GetPayloadSchemaRequest(job_id=job_id)
        try:
            method = BATCH["GetPayloadSchema"]
            answer = await self._connection.unary(method, request, repeatable=True)
            return row_schema(answer.schema, answer.schema_id)
        except SpooledError as error:
            # The jobs are claimed all the same, and may do without.
            return _UnknownSchema(f"the schema of job {job_id} could not be read: {error}")


class _UnknownSchema:
    """A schema that the server did not tell."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    # Of a batch that is not known either.
    number = 0

    @property
    def arrow(self) -> NoReturn:
        raise SpooledError(self._reason)

    def row(self, payload: Mapping[str, Any]) -> NoReturn:  # noqa: ARG002
        raise SpooledError(self._reason)
