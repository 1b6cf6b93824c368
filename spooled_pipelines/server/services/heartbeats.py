"""A worker's heartbeat, as a call or within ProcessJobs."""

from __future__ import annotations

import json
from collections.abc import Mapping

from spooled_pipelines.server.auth import Caller
from spooled_pipelines.server.core import validation
from spooled_pipelines.server.services.context import ServiceContext
from spooled_pipelines.server.store.requests import Heartbeat
from spooled_pipelines.wire.spooled_v1 import HeartbeatRequest, HeartbeatResponse

LABEL_MAX = 255
_JOBS_MAX = 1_000_000


def packed(metadata: Mapping[str, str]) -> str:
    """Return a worker's metadata as it is kept."""
    validation.tags(metadata, name="metadata")
    return json.dumps(dict(metadata), sort_keys=True)


async def heartbeat(
    context: ServiceContext, caller: Caller, request: HeartbeatRequest
) -> HeartbeatResponse:
    """Note that a worker lives; NOT_FOUND where it is not registered."""
    said = Heartbeat(
        validation.worker_id(request.worker_id),
        validation.integer("current_jobs", request.current_jobs, 0, _JOBS_MAX),
        validation.text("status", request.status, LABEL_MAX),
        packed(request.metadata),
    )
    await context.store.heartbeat(caller.organization, said)
    return HeartbeatResponse(acknowledged=True)
