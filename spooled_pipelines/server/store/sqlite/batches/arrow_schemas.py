"""The Arrow schemas of a batch's payloads and results."""

from __future__ import annotations

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.batches.records import PayloadSchema
from spooled_pipelines.server.core.batches.rules import no_batch_of_job, no_schema
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.transactions import Snapshot, Transaction


def payload_schema(snapshot: Snapshot, organization: str, job_id: str) -> PayloadSchema:
    """Return the schema of a job's payload."""
    values = (organization, ids.job_number(snapshot.prefix, job_id))
    row = snapshot.connection.execute(SQL["read_payload_schema"], values).fetchone()
    if row is None:
        raise no_schema(job_id)
    return PayloadSchema._make(row)


def result_schema(snapshot: Snapshot, organization: str, batch_id: str) -> bytes | None:
    """Return the schema of a batch's results, where it has one."""
    values = (organization, batch_id)
    row = snapshot.connection.execute(SQL["read_result_schema"], values).fetchone()
    return None if row is None else row[0]


def keep_result_schema(tx: Transaction, organization: str, job_id: str, schema: bytes) -> bytes:
    """Keep the schema of the results of a job's batch, unless it has one; return which it has."""
    job = (tx.names.organization(organization), ids.job_number(tx.prefix, job_id))
    tx.connection.execute(SQL["keep_result_schema"], (schema, *job))
    row = tx.connection.execute(SQL["read_result_schema_of_job"], job).fetchone()
    if row is None:
        raise no_batch_of_job(job_id)
    kept: bytes = row[0]
    return kept
