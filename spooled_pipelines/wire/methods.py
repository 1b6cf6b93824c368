"""Every RPC with its path and message classes, read from the descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory

from spooled_pipelines.wire.pool import POOL, SERVICES

QUEUE_SERVICE = "spooled.v1.QueueService"
WORKER_SERVICE = "spooled.v1.WorkerService"
BATCH_SERVICE = "spooled_pipelines.v1.BatchService"
KEY_SERVICE = "spooled_pipelines.v1.KeyService"
QUEUE_ADMIN_SERVICE = "spooled_pipelines.v1.QueueAdminService"


@dataclass(frozen=True)
class Method:
    """One RPC: `path` is `/package.Service/Name`, the two classes are its messages."""

    service: str
    name: str
    request_class: Any
    response_class: Any
    client_streaming: bool
    server_streaming: bool

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"


def every_method() -> list[Method]:
    """Return the RPCs of all services."""
    return [method for service in SERVICES for method in methods_of(service).values()]


def methods_of(service: str) -> dict[str, Method]:
    """Return the RPCs of one service by name."""
    descriptor = POOL.FindServiceByName(service)
    return {
        method.name: Method(
            service=service,
            name=method.name,
            request_class=message_factory.GetMessageClass(method.input_type),
            response_class=message_factory.GetMessageClass(method.output_type),
            client_streaming=method.client_streaming,
            server_streaming=method.server_streaming,
        )
        for method in descriptor.methods
    }


QUEUE = methods_of(QUEUE_SERVICE)
WORKER = methods_of(WORKER_SERVICE)
BATCH = methods_of(BATCH_SERVICE)
KEYS = methods_of(KEY_SERVICE)
QUEUE_ADMIN = methods_of(QUEUE_ADMIN_SERVICE)
