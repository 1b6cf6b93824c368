"""FindKeys: which rows are jobs already."""

from __future__ import annotations

from spooled_pipelines.wire import batch_v1 as batch
from tests.support.wire import OTHER_KEY, Wire, answered, struct


async def test_keys_are_found_in_their_queue_and_organization_alone(wire: Wire) -> None:
    await wire.enqueue(idempotency_key="k")
    request = batch.FindKeysRequest(queue_name="q", idempotency_keys=["none", "k"])
    assert list((await wire.call(request)).found) == [1]
    assert list((await wire.call(request, key=OTHER_KEY)).found) == []
    request.payloads.extend([b"", struct(other=1).SerializeToString()])
    assert list((await wire.call(request)).changed) == [1]
    elsewhere = batch.FindKeysRequest(queue_name="other", idempotency_keys=["k"])
    assert list((await wire.call(elsewhere)).found) == []


async def test_too_many_keys_and_no_queue_are_refused(wire: Wire) -> None:
    with answered("INVALID_ARGUMENT", "at most 10000"):
        await wire.call(batch.FindKeysRequest(queue_name="q", idempotency_keys=["k"] * 10_001))
    with answered("INVALID_ARGUMENT", "payloads has 1 values for 2 keys"):
        keys = ["k", "l"]
        await wire.call(
            batch.FindKeysRequest(queue_name="q", idempotency_keys=keys, payloads=[b""])
        )
    with answered("INVALID_ARGUMENT", "payload is not a google.protobuf.Struct"):
        await wire.call(
            batch.FindKeysRequest(queue_name="q", idempotency_keys=["k"], payloads=[b"\xff"])
        )
    with answered("INVALID_ARGUMENT", "queue_name"):
        await wire.call(batch.FindKeysRequest(idempotency_keys=["k"]))
