"""Complete, Fail and RenewLease, for the unary calls and for ProcessJobs."""

from __future__ import annotations

from functools import partial

from spooled_pipelines.server.auth import Caller
from spooled_pipelines.server.core import validation
from spooled_pipelines.server.core.errors import LEASE_LOST, RefusedError
from spooled_pipelines.server.core.jobs.settlements import (
    Completion,
    FailOutcome,
    Failure,
    LeaseHolder,
    Settlement,
)
from spooled_pipelines.server.services.context import ServiceContext
from spooled_pipelines.server.services.encoding import timestamp
from spooled_pipelines.server.services.validation.structs import check_object
from spooled_pipelines.wire.spooled_v1 import (
    CompleteRequest,
    CompleteResponse,
    FailRequest,
    FailResponse,
    RenewLeaseRequest,
    RenewLeaseResponse,
)


async def complete(
    context: ServiceContext, caller: Caller, request: CompleteRequest
) -> CompleteResponse:
    """Settle a job with its result."""
    holder = _holder(context, request)
    result: bytes | None = None
    if request.HasField("result"):
        result = request.result.SerializeToString()
        await context.checked(caller, request, partial(check_object, "result", result))
    await _settle(context, caller, Settlement(holder, Completion(result)))
    return CompleteResponse(success=True)


async def fail(context: ServiceContext, caller: Caller, request: FailRequest) -> FailResponse:
    """Settle a job that failed: retry it, or make it a dead letter."""
    holder = _holder(context, request)
    retry = request.retry if request.HasField("retry") else True
    error = validation.error(request.error)
    outcome = await _settle(context, caller, Settlement(holder, Failure(error, retry)))
    if outcome is None:
        raise RefusedError("INTERNAL", "the store did not say what became of the job")
    return FailResponse(
        success=True,
        will_retry=outcome.will_retry,
        next_retry_delay_secs=outcome.delay_seconds,
    )


async def renew_lease(
    context: ServiceContext, caller: Caller, request: RenewLeaseRequest
) -> RenewLeaseResponse:
    """Extend a lease."""
    holder = _holder(context, request)
    lease = validation.lease_ms(
        "extension_secs", request.extension_secs, request.lease_duration_secs
    )
    expiry = await context.store.renew(caller.organization, holder, lease)
    return RenewLeaseResponse(success=True, new_expires_at=timestamp(expiry))


def code_in_band(refusal: RefusedError) -> str:
    """Return a refusal's code within a stream, where a lost lease has a code of its own."""
    return "LEASE_EXPIRED" if refusal.reason == LEASE_LOST else refusal.code


async def _settle(
    context: ServiceContext, caller: Caller, settlement: Settlement
) -> FailOutcome | None:
    (outcome,) = await context.store.settle(caller.organization, [settlement])
    if isinstance(outcome, RefusedError):
        raise outcome
    return outcome


def _holder(
    context: ServiceContext, request: CompleteRequest | FailRequest | RenewLeaseRequest
) -> LeaseHolder:
    return validation.lease_holder(
        request.job_id,
        request.worker_id,
        request.lease_id,
        lease_required=context.require_lease_id,
    )
