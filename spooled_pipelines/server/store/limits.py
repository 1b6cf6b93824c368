"""How much one transaction, or one answer, of a store takes on: so that nobody waits for long."""

from __future__ import annotations

from collections.abc import Mapping

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.key_records import AuditKind
from spooled_pipelines.wire.limits import CHUNK_BYTES_MAX

# Jobs that one step of a cancel or a retry looks at.
STEP_JOBS = 2_000
# Jobs that one sweep releases or takes back.
SWEEP_JOBS = 1_000
# Payloads in one answer.
ANSWER_BYTES = CHUNK_BYTES_MAX
# Queues and workers of one organization, and after what silence a worker is forgotten.
QUEUES_MAX = 10_000
WORKERS_MAX = 5_000
WORKER_FORGOTTEN_MS = 24 * 3_600_000
# Jobs at the head of a queue among which the next one of a batch is looked for.
AHEAD_MAX = 1_000
# Jobs that one search looks at; the next page goes on from there.
SEARCHED_MAX = 10_000
# The same for a listing of jobs, which reads them in the order in which they lie.
LISTED_MAX = 100_000
# How many entries of the audit are kept, by their kind: 20, 20 and 4 MiB or so.
AUDIT_KEPT: Mapping[int, int] = {
    AuditKind.ADMIN: 100_000,
    AuditKind.OTHER: 100_000,
    AuditKind.REFUSED: 20_000,
}
# Attempts at one job that an answer has, each perhaps with an error.
ATTEMPTS_MAX = 1_000


def refuse_beyond(organization: int) -> None:
    """RefusedError where the number of an organization is one of which jobs can have no numbers."""
    if organization > ids.ORGANIZATIONS_MAX:
        raise RefusedError(
            "RESOURCE_EXHAUSTED",
            f"this store has made {ids.ORGANIZATIONS_MAX} organizations, and no more fit",
        )


def too_many(what: str, most: int) -> RefusedError:
    """Return the refusal of one more."""
    return RefusedError(
        "RESOURCE_EXHAUSTED", f"this organization has {most} {what}, and no more fit"
    )
