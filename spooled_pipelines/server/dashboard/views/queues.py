"""Queues: how deep, how old and how fast they are; pause, resume, and retry dead letters."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from spooled_pipelines.server.core.errors import not_found
from spooled_pipelines.server.dashboard.context import Form, SignedInRequest
from spooled_pipelines.server.dashboard.formatting import number
from spooled_pipelines.server.dashboard.throughput import Rate
from spooled_pipelines.wire.batch_v1 import ListBatchesRequest
from spooled_pipelines.wire.queue_admin_v1 import (
    ListDeadLettersRequest,
    ListQueuesRequest,
    ListWorkersRequest,
    PauseQueueRequest,
    Queue,
    RedriveDeadLettersRequest,
    ResumeQueueRequest,
)

_PAGE = 100
_RECENT = 8


async def queues(visit: SignedInRequest) -> Response:
    """Answer GET /queues."""
    token = visit.query("after")
    answer = await visit.call(ListQueuesRequest(page_size=_PAGE, page_token=token))
    rows = [(queue, _rate(visit, queue)) for queue in answer.queues]
    return visit.show("queues.html", rows=rows, after=token, more=answer.next_page_token)


async def queue(visit: SignedInRequest) -> Response:
    """Answer GET /queues/<name>."""
    found = await _queue(visit)
    name = found.stats.queue_name
    batches: list[Any] = []
    if visit.may(ListBatchesRequest):
        request = ListBatchesRequest(queue_name=name, page_size=_RECENT)
        batches = list((await visit.call(request)).batches)
    workers = await visit.call(ListWorkersRequest(queue_name=name, page_size=_PAGE))
    return visit.show(
        "queue.html",
        queue=found,
        rate=_rate(visit, found),
        batches=batches,
        workers=workers.workers,
        may_control=visit.may(PauseQueueRequest),
        may_list_dead=visit.may(ListDeadLettersRequest),
    )


async def dead_letters(visit: SignedInRequest) -> Response:
    """Answer GET /queues/<name>/dead-letters."""
    found = await _queue(visit)
    token = visit.query("after")
    request = ListDeadLettersRequest(
        queue_name=found.stats.queue_name, page_size=_PAGE, page_token=token
    )
    answer = await visit.call(request)
    return visit.show(
        "dead_letters.html",
        queue=found,
        jobs=answer.jobs,
        after=token,
        more=answer.next_page_token,
        may_retry=visit.may(RedriveDeadLettersRequest),
    )


async def pause(visit: SignedInRequest, _: Form) -> Response:
    """Answer POST /queues/<name>/pause."""
    name = visit.request.path_params["name"]
    await visit.call(PauseQueueRequest(queue_name=name))
    return visit.done(f"Queue {name} is paused: nobody gets a job of it.", f"/queues/{name}")


async def resume(visit: SignedInRequest, _: Form) -> Response:
    """Answer POST /queues/<name>/resume."""
    name = visit.request.path_params["name"]
    await visit.call(ResumeQueueRequest(queue_name=name))
    return visit.done(f"Queue {name} hands out jobs again.", f"/queues/{name}")


async def retry_dead_letters(visit: SignedInRequest, form: Form) -> Response:
    """Answer POST /queues/<name>/dead-letters/retry."""
    name = visit.request.path_params["name"]
    contains = form.get("error_contains", "")
    request = RedriveDeadLettersRequest(queue_name=name, error_contains=contains)
    count = (await visit.call(request)).redriven
    notice = f"{number(count)} dead letters are back in the queue, with all their retries."
    if not count:
        notice = "No dead letter was retried: none has this text in its error."
    return visit.done(notice, f"/queues/{name}/dead-letters")


async def _queue(visit: SignedInRequest) -> Queue:
    name = visit.request.path_params["name"]
    answer = await visit.call(ListQueuesRequest(queue_name=name))
    if not answer.queues:
        raise not_found(f"there is no queue {name!r} yet; it begins with its first job")
    found: Queue = answer.queues[0]
    return found


def _rate(visit: SignedInRequest, queue: Queue) -> Rate | None:
    stats = queue.stats
    what = ("queue", visit.session.caller.organization, stats.queue_name)
    went = stats.completed + stats.deadletter + queue.cancelled
    return visit.web.rates.see(what, visit.web.clock.now(), stats.total, went)
