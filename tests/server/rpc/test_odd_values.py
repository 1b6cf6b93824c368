"""What no program of ours sends: it is refused by name, and never fails the server."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.protobuf import field
from spooled_pipelines.server.services.validation.structs import check_chunk_request, check_object
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire.spooled_v1 import CompleteRequest, EnqueueRequest
from spooled_pipelines.wire.well_known import Struct, Value
from tests.support.wire import METHODS, Wire, answered

BOTH = pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)
STRANGE = field(99, b"x" * 20)
VALUE = Value(string_value="a").SerializeToString()
UNKNOWN = {
    "in the payload": STRANGE,
    "in a field": field(1, field(1, b"k") + field(2, VALUE) + STRANGE),
    "in a value": field(1, field(1, b"k") + field(2, VALUE + STRANGE)),
}
NOT_FINITE = {
    str(number): Struct(
        fields={"text": Value(string_value="x" * 127), "n": Value(number_value=number)}
    ).SerializeToString()
    for number in (float("nan"), float("inf"), float("-inf"))
}
REFUSED = {
    **{f"unknown {k}": (data, "has fields that no") for k, data in UNKNOWN.items()},
    **{name: (data, f"holds {name}, which JSON") for name, data in NOT_FINITE.items()},
}
FINE = Struct(fields={"n": Value(number_value=-1.5), "ÿ": Value(string_value="\x7f" * 255)})


@pytest.mark.parametrize("name", REFUSED)
def test_of_a_chunk_only_the_odd_payloads_are_refused(name: str) -> None:
    odd, reason = REFUSED[name]
    fine = FINE.SerializeToString()
    payloads = [fine, odd, b"", fine * 1]
    request = batch.EnqueueBatchRequest(chunk=batch.JobChunk(payloads=payloads)).SerializeToString()
    ((place, message),) = check_chunk_request(request, payloads)
    assert place == 1
    assert reason in message
    check_object("payload", fine)
    with pytest.raises(RefusedError, match=reason):
        check_object("result", odd)


def test_a_number_behind_a_tag_that_is_longer_than_need_be_is_found() -> None:
    import struct

    value = b"\x91\x00" + struct.pack("<d", float("nan"))
    odd = field(1, field(1, b"k") + field(2, value))
    Struct.FromString(odd)
    payloads = [FINE.SerializeToString(), odd]
    request = batch.EnqueueBatchRequest(chunk=batch.JobChunk(payloads=payloads)).SerializeToString()
    ((place, message),) = check_chunk_request(request, payloads)
    assert (place, "holds nan" in message) == (1, True)


def test_payloads_of_all_lengths_are_taken() -> None:
    lengths = (0, 118, 119, 120, 121, 127, 128, 16_370, 16_374, 16_375, 16_384, 20_000)
    structs = [Struct(fields={"a": Value(string_value="x" * n)}) for n in lengths]
    payloads = [struct.SerializeToString() for struct in structs]
    request = batch.EnqueueBatchRequest(chunk=batch.JobChunk(payloads=payloads)).SerializeToString()
    assert check_chunk_request(request, payloads) == []


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", REFUSED)
async def test_single_calls_refuse_them_too(wire: Wire, name: str) -> None:
    odd, reason = REFUSED[name]
    payload = Struct.FromString(odd)
    with answered("INVALID_ARGUMENT", f"payload {reason}"):
        await wire.call(EnqueueRequest(queue_name="q", payload=payload))
    with answered("INVALID_ARGUMENT", f"result {reason}"):
        await wire.call(CompleteRequest(job_id="j", worker_id="w", result=payload))


@BOTH
async def test_no_text_with_nul_fails_the_server(wire: Wire) -> None:
    """Each text of each unary call, one after the other, in a request that is good without it."""
    await wire.enqueue()
    job = await wire.claim()
    good = {"job_id": job.id, "lease_id": job.lease_id, "worker_id": "w", "queue_name": "q"}
    failed = []
    for method in METHODS:
        if method.client_streaming or method.server_streaming:
            continue
        fields = method.request_class.DESCRIPTOR.fields
        base: dict[str, Any] = {each.name: good[each.name] for each in fields if each.name in good}
        if any(each.name == "error" for each in fields):
            base["error"] = "boom"
        for each in fields:
            if each.type != each.TYPE_STRING:
                continue
            request = method.request_class(
                **{**base, each.name: ["a\0b"] if each.is_repeated else "a\0b"}
            )
            try:
                await wire.open(method, request)
            except grpc.aio.AioRpcError as error:
                if error.code().name in ("INTERNAL", "UNKNOWN"):
                    failed.append(f"{method.name}.{each.name}: {error.details()}")
    assert failed == []


@BOTH
async def test_a_lease_id_with_nul_is_refused_by_name(wire: Wire) -> None:
    request = CompleteRequest(job_id=await wire.enqueue(), worker_id="w", lease_id="a\0b")
    with answered("INVALID_ARGUMENT", "lease_id holds a NUL"):
        await wire.call(request)
