"""Health and reflection, which every gRPC server is expected to have. Neither needs a key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc.aio
from google.protobuf.descriptor_pool import DescriptorPool

from spooled_pipelines.wire.pool import POOL


class Health:
    """grpc.health.v1, SERVING for the server as a whole and for each service until it drains."""

    def __init__(self, servicer: Any) -> None:
        self._servicer = servicer

    async def drain(self) -> None:
        """Answer NOT_SERVING from now on, and tell those who watch."""
        await self._servicer.enter_graceful_shutdown()


async def add_standard_services(server: grpc.aio.Server, services: Sequence[str]) -> Health | None:
    """Add both for these services; return None where the extra `server` is not installed."""
    try:
        from grpc_health.v1 import health, health_pb2, health_pb2_grpc
        from grpc_reflection.v1alpha import reflection, reflection_pb2
    except ImportError:
        # A server inside a program, which has only its own client.
        return None
    health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    reflection_name = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name
    pool = _pool_of(
        [
            *(POOL.FindServiceByName(name).file for name in services),
            health_pb2.DESCRIPTOR,
            reflection_pb2.DESCRIPTOR,
        ]
    )
    servicer = health.aio.HealthServicer()
    for name in (*services, health_name):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = (*services, health_name, reflection_name)
    reflection.enable_server_reflection(names, server, pool)
    return Health(servicer)


def _pool_of(files: Sequence[Any]) -> DescriptorPool:
    """Return a pool of all these files: ours live in a pool of their own, gRPC's in protobuf's."""
    pool = DescriptorPool()

    def add(file: Any) -> None:
        for needed in file.dependencies:
            add(needed)
        pool.AddSerializedFile(file.serialized_pb)

    for file in files:
        add(file)
    return pool
