"""An upload that was cut is opened again, and only what is missing goes over the wire."""

from __future__ import annotations

from spooled_pipelines.wire.batch_v1 import EnqueueBatchRequest, JobChunk, OpenBatch
from tests.support.wire import Wire, struct

OPENING = EnqueueBatchRequest(open=OpenBatch(batch_id="b", queue_name="q", upload_id="u"))


def rows(number: int, *keys: str, bare: bool = False) -> EnqueueBatchRequest:
    payloads = [] if bare else [struct(key=key).SerializeToString() for key in keys]
    chunk = JobChunk(number=number, payloads=payloads, idempotency_keys=keys)
    return EnqueueBatchRequest(chunk=chunk)


async def test_the_opening_tells_which_chunks_are_there(wire: Wire) -> None:
    async with wire.conversation("EnqueueBatch") as stream:
        await stream.write(OPENING)
        assert not (await stream.read()).stored
        for number in (0, 1, 3):
            await stream.write(rows(number, f"k{number}", f"l{number}"))
        before = [list((await stream.read()).outcome.job_ids) for _ in range(3)]
    async with wire.conversation("EnqueueBatch") as stream:
        await stream.write(OPENING)
        answer = await stream.read()
        assert answer.opened.total == 6
        assert [(run.first, run.last) for run in answer.stored] == [(0, 1), (3, 3)]
        for message in (
            rows(0, "k0", "l0", bare=True),
            rows(1, "k1", "l1", bare=True),
            rows(2, "k2", "l2"),
            rows(3, "k3", "l3", bare=True),
        ):
            await stream.write(message)
        await stream.done_writing()
        outcomes = [(await stream.read()).outcome for _ in range(4)]
        assert await stream.read() is None
    assert [outcome.number for outcome in outcomes] == [0, 1, 2, 3]
    assert [outcome.created for outcome in outcomes] == [2, 2, 2, 2]
    assert [list(outcomes[number].job_ids) for number in (0, 1, 3)] == before


async def test_payloads_are_left_out_only_of_what_is_stored(wire: Wire) -> None:
    async with wire.conversation("EnqueueBatch") as stream:
        await stream.write(OPENING)
        await stream.read()
        await stream.write(rows(0, "k", bare=True))
        code, message = await stream.status()
        assert code == "FAILED_PRECONDITION"
        assert "chunk 0 of upload 'u' is not stored yet" in message
