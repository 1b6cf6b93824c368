"""Batches: how far they are, what went wrong in them, and their jobs."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.responses import Response

from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.dashboard.context import Form, SignedInRequest
from spooled_pipelines.server.dashboard.formatting import number
from spooled_pipelines.wire import batch_v1

_PAGE = 50
_STATUSES = {name: number for number, name in Status.NAMES.items() if name != "failed"}


async def batches(ctx: SignedInRequest) -> Response:
    """Answer GET /batches."""
    queue_name, token = ctx.query("queue"), ctx.query("before")
    request = batch_v1.ListBatchesRequest(queue_name=queue_name, page_size=_PAGE, page_token=token)
    answer = await ctx.call(request)
    return ctx.show(
        "batches.html",
        batches=answer.batches,
        queue_name=queue_name,
        before=token,
        more=answer.next_page_token,
    )


async def batch(ctx: SignedInRequest) -> Response:
    """Answer GET /batches/<id>."""
    stats = await _stats(ctx)
    status, text, token = ctx.query("status"), ctx.query("text"), ctx.query("after")
    wanted = [_STATUSES[status]] if status in _STATUSES else []
    request = batch_v1.FindBatchJobsRequest(
        batch_id=stats.batch_id,
        statuses=wanted,  # type: ignore[arg-type]  # the same numbers
        text=text,
        page_size=_PAGE,
        page_token=token,
    )
    # The progress is asked for more often than the jobs.
    found = batch_v1.FindBatchJobsResponse() if ctx.part == "live" else await ctx.call(request)
    query = {"status": status, "text": text}
    return ctx.show(
        "batch.html",
        stats=stats,
        jobs=found.jobs,
        statuses=_STATUSES,
        status=status,
        text=text,
        after=token,
        query=urlencode({name: value for name, value in query.items() if value}),
        more=found.next_page_token,
        pace=_pace(ctx, stats),
        may_retry=ctx.may(batch_v1.RetryBatchRequest),
        may_cancel=ctx.may(batch_v1.CancelBatchRequest),
    )


async def cancel(ctx: SignedInRequest, form: Form) -> Response:
    """Answer POST /batches/<id>/cancel."""
    batch_id = ctx.request.path_params["batch_id"]
    request = batch_v1.CancelBatchRequest(batch_id=batch_id)
    # The reader does not mean what was enqueued after the page was loaded.
    if form.get("generation", "").isdigit():
        request.generation = min(int(form["generation"]), 2**31 - 1)
    answer = await ctx.call(request)
    notice = f"{number(answer.cancelled)} jobs of this batch are cancelled."
    if answer.running:
        notice += f" {number(answer.running)} still run, and may end as they will."
    return ctx.done(notice, f"/batches/{batch_id}")


async def retry(ctx: SignedInRequest, form: Form) -> Response:
    """Answer POST /batches/<id>/retry."""
    batch_id = ctx.request.path_params["batch_id"]
    contains = form.get("error_contains", "")
    request = batch_v1.RetryBatchRequest(batch_id=batch_id, error_contains=contains)
    return ctx.retried((await ctx.call(request)).retried, f"/batches/{batch_id}")


async def _stats(ctx: SignedInRequest) -> batch_v1.BatchStats:
    batch_id = ctx.request.path_params["batch_id"]
    answer = await ctx.call(batch_v1.GetBatchStatsRequest(batch_ids=[batch_id]))
    found: batch_v1.BatchStats = answer.batches[0]
    return found


def _pace(ctx: SignedInRequest, stats: batch_v1.BatchStats) -> tuple[float | None, float | None]:
    """Return how many jobs a second end, and how many seconds the others take at this pace."""
    what = ("batch", ctx.session.caller.organization, stats.batch_id, stats.generation)
    ended = stats.completed + stats.deadletter + stats.cancelled
    rate = ctx.web.rates.see(what, ctx.web.clock.now(), stats.total, ended)
    if stats.settled or rate is None:
        return None, None
    left = stats.total - ended
    return rate.went, left / rate.went if rate.went else None
