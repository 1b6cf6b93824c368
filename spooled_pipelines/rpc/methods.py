"""The RPCs that the clients call, by name."""

from __future__ import annotations

from spooled_pipelines.wire.methods import (
    BATCH_SERVICE,
    QUEUE_ADMIN_SERVICE,
    QUEUE_SERVICE,
    WORKER_SERVICE,
    Method,
    methods_of,
)

QUEUE: dict[str, Method] = methods_of(QUEUE_SERVICE)
WORKER: dict[str, Method] = methods_of(WORKER_SERVICE)
BATCH: dict[str, Method] = methods_of(BATCH_SERVICE)
QUEUE_ADMIN: dict[str, Method] = methods_of(QUEUE_ADMIN_SERVICE)
