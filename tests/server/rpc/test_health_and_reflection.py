"""Health and reflection, as load balancers and grpcurl ask for them; neither needs a key."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from spooled_pipelines import AsyncSpooledClient
from spooled_pipelines.server.core.runtime.lifecycle import LoopMonitor
from spooled_pipelines.server.rpc import health as rpc_health
from spooled_pipelines.wire.pool import SERVICES
from spooled_pipelines.wire.spooled_v1 import GetQueueStatsRequest
from tests.support.waiting import aeventually
from tests.support.wire import KEY, Wire, answered

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def health(wire: Wire) -> Any:
    return health_pb2_grpc.HealthStub(wire.channel)


def question(name: str = "") -> Any:
    return health_pb2.HealthCheckRequest(service=name)


async def reflected(wire: Wire, **request: Any) -> Any:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(wire.channel)
    call = stub.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(**request))
    await call.done_writing()
    return await asyncio.wait_for(call.read(), 60)


@pytest.mark.parametrize("name", ["", *SERVICES, "grpc.health.v1.Health"])
async def test_each_service_is_healthy(tmp_path: Path, name: str) -> None:
    async with Wire(tmp_path) as wire:
        assert (await health(wire).Check(question(name))).status == SERVING


async def test_a_service_that_is_not_there_is_not_healthy(tmp_path: Path) -> None:
    async with Wire(tmp_path, batch_extension=False) as wire:
        with answered("NOT_FOUND"):
            await health(wire).Check(question("spooled_pipelines.v1.BatchService"))


async def test_a_watcher_is_told_that_the_server_drains(tmp_path: Path) -> None:
    wire = Wire(tmp_path)
    await wire.__aenter__()
    watch = health(wire).Watch(question("spooled.v1.QueueService"))
    assert (await asyncio.wait_for(watch.read(), 60)).status == SERVING
    stopping = asyncio.create_task(wire.server.stop())
    assert (await asyncio.wait_for(watch.read(), 60)).status == NOT_SERVING
    await asyncio.wait_for(stopping, 60)
    await wire.channel.close()


async def test_a_client_of_two_servers_passes_over_one_that_does_not_serve(tmp_path: Path) -> None:
    async with two_wires(tmp_path) as (sick, well):
        loops: LoopMonitor = cast("Any", sick.server)._readiness.loops
        loops.failed("loop of this test")
        async with AsyncSpooledClient(f"{sick.address},{well.address}", api_key=KEY) as client:
            for _ in range(10):
                await client.enqueue("q", {})
        assert [await pending(wire) for wire in (sick, well)] == [0, 10]


async def test_a_client_that_may_not_watch_uses_both_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc_health, "_WATCHES", (0, 0))
    async with two_wires(tmp_path) as wires:
        address = ",".join(wire.address for wire in wires)
        async with AsyncSpooledClient(address, api_key=KEY) as client:

            async def both_have_some() -> bool:
                await client.enqueue("q", {})
                return all([await pending(wire) for wire in wires])

            await aeventually(both_have_some)


@contextlib.asynccontextmanager
async def two_wires(folder: Path) -> AsyncIterator[tuple[Wire, Wire]]:
    """Two servers, each with a store of its own."""
    for name in ("first", "second"):
        (folder / name).mkdir()
    async with Wire(folder / "first") as first, Wire(folder / "second") as second:
        yield first, second


async def pending(wire: Wire) -> int:
    return int((await wire.call(GetQueueStatsRequest(queue_name="q"))).pending)


async def test_reflection_lists_every_service_and_hands_out_its_messages(tmp_path: Path) -> None:
    async with Wire(tmp_path) as wire:
        answer = await reflected(wire, list_services="")
        names = {service.name for service in answer.list_services_response.service}
        # What the tests of every RPC go by is all that the server has.
        standard = {name for name in names if name.startswith("grpc.")}
        assert "grpc.health.v1.Health" in standard
        assert names - standard == set(SERVICES)
        for name in names:
            answer = await reflected(wire, file_containing_symbol=name)
            pool = DescriptorPool()
            files = answer.file_descriptor_response.file_descriptor_proto
            assert files, answer
            pending = {file.name: file for file in map(FileDescriptorProto.FromString, files)}
            add(pool, pending, pool_order(pending))
            assert pool.FindServiceByName(name).methods


def pool_order(pending: dict[str, FileDescriptorProto]) -> list[str]:
    order: list[str] = []

    def visit(name: str) -> None:
        for needed in pending[name].dependency:
            visit(needed)
        if name not in order:
            order.append(name)

    for name in pending:
        visit(name)
    return order


def add(pool: DescriptorPool, files: dict[str, FileDescriptorProto], order: list[str]) -> None:
    for name in order:
        pool.AddSerializedFile(files[name].SerializeToString())
