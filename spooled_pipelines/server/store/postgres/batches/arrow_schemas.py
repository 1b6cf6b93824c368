"""The Arrow schemas of a batch's payloads and results."""

from __future__ import annotations

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.batches.records import PayloadSchema
from spooled_pipelines.server.core.batches.rules import no_batch_of_job, no_schema
from spooled_pipelines.server.store.postgres.connections.database import Snapshot
from spooled_pipelines.server.store.postgres.transactions import StoreContext, Transaction, run


async def payload_schema(snapshot: Snapshot, organization: str, job_id: str) -> PayloadSchema:
    """Return the schema of a job's payload."""
    values = {"organization": organization, "seq": ids.job_number(snapshot.prefix, job_id)}
    rows = await snapshot.rows("read_payload_schema", **values)
    if not rows:
        raise no_schema(job_id)
    return PayloadSchema._make(rows[0])


async def result_schema(snapshot: Snapshot, organization: str, batch_id: str) -> bytes | None:
    """Return the schema of a batch's results, where it has one."""
    values = {"organization": organization, "batch_id": batch_id}
    rows = await snapshot.rows("read_result_schema", **values)
    return rows[0][0] if rows else None


async def keep_result_schema(
    context: StoreContext, organization: str, job_id: str, schema: bytes
) -> bytes:
    """Keep the schema of the results of a job's batch, unless it has one; return which it has."""
    owner = await context.owner(organization)

    async def body(tx: Transaction) -> bytes:
        await tx.begin()
        job = {"organization": owner, "seq": ids.job_number(tx.prefix, job_id)}
        await tx.send("keep_result_schema", **job, schema=schema)
        rows = await tx.rows("read_result_schema_of_job", **job)
        if not rows:
            raise no_batch_of_job(job_id)
        await tx.commit()
        kept: bytes = rows[0][0]
        return kept

    return await run(context, body)
