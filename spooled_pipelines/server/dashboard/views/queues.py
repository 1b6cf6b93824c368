"""Queues: how deep, how old and how fast they are; pause, resume, and retry dead letters."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from spooled_pipelines.server.core.errors import not_found
from spooled_pipelines.server.dashboard.context import Form, SignedInRequest
from spooled_pipelines.server.dashboard.throughput import Rate
from spooled_pipelines.wire import queue_admin_v1
from spooled_pipelines.wire.batch_v1 import ListBatchesRequest

_PAGE = 100
_RECENT = 8


async def queues(ctx: SignedInRequest) -> Response:
    """Answer GET /queues."""
    token = ctx.query("after")
    answer = await ctx.call(queue_admin_v1.ListQueuesRequest(page_size=_PAGE, page_token=token))
    rows = [(queue, _rate(ctx, queue)) for queue in answer.queues]
    return ctx.show("queues.html", rows=rows, after=token, more=answer.next_page_token)


async def queue(ctx: SignedInRequest) -> Response:
    """Answer GET /queues/<name>."""
    found = await _queue(ctx)
    name = found.stats.queue_name
    batches: list[Any] = []
    if ctx.may(ListBatchesRequest):
        request = ListBatchesRequest(queue_name=name, page_size=_RECENT)
        batches = list((await ctx.call(request)).batches)
    workers = await ctx.call(queue_admin_v1.ListWorkersRequest(queue_name=name, page_size=_PAGE))
    return ctx.show(
        "queue.html",
        queue=found,
        rate=_rate(ctx, found),
        batches=batches,
        workers=workers.workers,
        may_control=ctx.may(queue_admin_v1.PauseQueueRequest),
        may_list_dead=ctx.may(queue_admin_v1.ListDeadLettersRequest),
    )


async def dead_letters(ctx: SignedInRequest) -> Response:
    """Answer GET /queues/<name>/dead-letters."""
    found = await _queue(ctx)
    token = ctx.query("after")
    request = queue_admin_v1.ListDeadLettersRequest(
        queue_name=found.stats.queue_name, page_size=_PAGE, page_token=token
    )
    answer = await ctx.call(request)
    return ctx.show(
        "dead_letters.html",
        queue=found,
        jobs=answer.jobs,
        after=token,
        more=answer.next_page_token,
        may_retry=ctx.may(queue_admin_v1.RedriveDeadLettersRequest),
    )


async def pause(ctx: SignedInRequest, _: Form) -> Response:
    """Answer POST /queues/<name>/pause."""
    name = ctx.request.path_params["name"]
    await ctx.call(queue_admin_v1.PauseQueueRequest(queue_name=name))
    return ctx.done(f"Queue {name} is paused: nobody gets a job of it.", f"/queues/{name}")


async def resume(ctx: SignedInRequest, _: Form) -> Response:
    """Answer POST /queues/<name>/resume."""
    name = ctx.request.path_params["name"]
    await ctx.call(queue_admin_v1.ResumeQueueRequest(queue_name=name))
    return ctx.done(f"Queue {name} hands out jobs again.", f"/queues/{name}")


async def retry_dead_letters(ctx: SignedInRequest, form: Form) -> Response:
    """Answer POST /queues/<name>/dead-letters/retry."""
    name = ctx.request.path_params["name"]
    contains = form.get("error_contains", "")
    request = queue_admin_v1.RedriveDeadLettersRequest(queue_name=name, error_contains=contains)
    return ctx.retried((await ctx.call(request)).redriven, f"/queues/{name}/dead-letters")


async def _queue(ctx: SignedInRequest) -> queue_admin_v1.Queue:
    name = ctx.request.path_params["name"]
    answer = await ctx.call(queue_admin_v1.ListQueuesRequest(queue_name=name))
    if not answer.queues:
        raise not_found(f"there is no queue {name!r} yet; it begins with its first job")
    found: queue_admin_v1.Queue = answer.queues[0]
    return found


def _rate(ctx: SignedInRequest, queue: queue_admin_v1.Queue) -> Rate | None:
    stats = queue.stats
    what = ("queue", ctx.session.caller.organization, stats.queue_name)
    went = stats.completed + stats.deadletter + queue.cancelled
    return ctx.web.rates.see(what, ctx.web.clock.now(), stats.total, went)
