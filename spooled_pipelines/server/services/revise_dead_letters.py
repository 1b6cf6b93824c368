"""ReviseDeadLetters: requeue or discard dead letters, or cancel other jobs, one by one."""

from __future__ import annotations

from functools import partial

from spooled_pipelines.server.auth import Caller, authorize_queues
from spooled_pipelines.server.core.errors import RefusedError, invalid
from spooled_pipelines.server.core.jobs.settlements import Revision
from spooled_pipelines.server.services.context import ServiceContext
from spooled_pipelines.server.services.validation.structs import check_object
from spooled_pipelines.wire import batch_v1, limits


async def revise(
    context: ServiceContext, caller: Caller, request: batch_v1.ReviseDeadLettersRequest
) -> batch_v1.ReviseDeadLettersResponse:
    """Make each revision; a refusal names the place of its revision."""
    if len(request.revisions) > limits.SETTLED_PER_MESSAGE_MAX:
        raise invalid(
            f"revisions has {len(request.revisions)} entries, and at most "
            f"{limits.SETTLED_PER_MESSAGE_MAX} are allowed in one call"
        )
    asked = [await _checked(context, caller, revision) for revision in request.revisions]
    revisions = [one for one in asked if isinstance(one, Revision)]
    done = iter(await context.store.revise(caller.organization, revisions))
    outcomes = [next(done) if isinstance(one, Revision) else one for one in asked]
    return batch_v1.ReviseDeadLettersResponse(
        refused=[
            batch_v1.RejectedRow(row=place, code=refusal.code, message=refusal.message)
            for place, refusal in enumerate(outcomes)
            if refusal is not None
        ]
    )


async def _checked(
    context: ServiceContext, caller: Caller, revision: batch_v1.DeadLetterRevision
) -> Revision | RefusedError:
    kind = revision.WhichOneof("revision")
    try:
        await authorize_queues(context.store, caller, revision)
        if kind is None:
            raise invalid("the revision is empty: set one of requeue, discard, cancel")
        payload: bytes | None = None
        if kind == "requeue" and revision.requeue.HasField("payload"):
            payload = revision.requeue.payload
            check = partial(check_object, "payload", payload)
            await context.checked(caller, revision, check)
    except RefusedError as refusal:
        return refusal
    return Revision(revision.job_id, payload, kind == "discard", kind == "cancel")
