"""A job: where it is, who has it, how its attempts went, and what is in it."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.dashboard import formatting
from spooled_pipelines.server.dashboard.context import SignedInRequest
from spooled_pipelines.wire.batch_v1 import ListAttemptsRequest
from spooled_pipelines.wire.spooled_v1 import GetJobRequest, Job


async def find_job(ctx: SignedInRequest) -> Response:
    """Answer GET /jobs?id=."""
    job_id = ctx.query("id")
    if not job_id:
        return ctx.show("find_job.html")
    job = await _job(ctx, job_id)
    return RedirectResponse(f"/jobs/{job.id}", 303)


async def job(ctx: SignedInRequest) -> Response:
    """Answer GET /jobs/<id>."""
    found = await _job(ctx, ctx.request.path_params["job_id"])
    attempts = None
    if ctx.may(ListAttemptsRequest):
        attempts = (await ctx.call(ListAttemptsRequest(job_id=found.id))).attempts
    return ctx.show("job.html", job=found, attempts=attempts)


async def contents(ctx: SignedInRequest) -> Response:
    """Answer GET /jobs/<id>/contents."""
    if not ctx.sees_payloads:
        role = ctx.session.caller.role.value
        message = f"this API key is for {role!r}, and payloads are shown for produce, work or admin"
        raise RefusedError("PERMISSION_DENIED", message)
    found = await _job(ctx, ctx.request.path_params["job_id"])
    return ctx.show(
        "contents.html",
        job=found,
        payload=formatting.payload(found.payload) if found.HasField("payload") else None,
        result=formatting.payload(found.result) if found.HasField("result") else None,
    )


async def _job(ctx: SignedInRequest, job_id: str) -> Job:
    answer: Job = (await ctx.call(GetJobRequest(job_id=job_id))).job
    return answer
