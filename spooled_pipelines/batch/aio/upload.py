"""Sends a prepared table: acknowledged means stored, and a cut in between loses nothing."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

from spooled_pipelines.batch.aio.pipelining import pipelined
from spooled_pipelines.batch.aio.room import AsyncQueueRoom, wait_for_room
from spooled_pipelines.batch.aio.rpcs import cancel_batch, finish_part, seal_batch
from spooled_pipelines.batch.ledger import Answers, Ledger
from spooled_pipelines.batch.outstanding import Outstanding, within
from spooled_pipelines.batch.patience import Patience
from spooled_pipelines.batch.progress import Progress
from spooled_pipelines.batch.staging.chunks import Chunk, open_message, shared_fields
from spooled_pipelines.batch.staging.prepare import Prepared
from spooled_pipelines.batch.window import Window, window_of_calls
from spooled_pipelines.errors import InvalidArgumentError, ServerError, SpooledError
from spooled_pipelines.rpc import methods
from spooled_pipelines.rpc.aio.connection import AsyncCalls
from spooled_pipelines.rpc.aio.runtime import AsyncConversation, monotonic, sleep
from spooled_pipelines.rpc.decode import batch_stats_from
from spooled_pipelines.wire import batch_v1

# Chunks on their way at once: one is stored while the next is on the wire and a third is made. More
# where they are answered in time, fewer where the server is busy; at most what it stores at once.
_WINDOW, _WINDOW_LEAST, _WINDOW_MOST = 4, 2, 8


class AsyncChunkUpload:
    """Through the batch extension: one conversation, opened again wherever it breaks.

    After a cut the chunks that were not acknowledged go again under their numbers, and the
    server answers those that it had stored already as it did the first time.
    """

    def __init__(
        self,
        calls: AsyncCalls,
        prepared: Prepared,
        ledger: Ledger,
        progress: Progress,
        generation: int,
        *,
        cancels_older: bool,
        max_outstanding: int | None = None,
    ) -> None:
        self._calls = calls
        self._prepared = prepared
        self._ledger = ledger
        self._progress = progress
        self._generation = generation
        self._cancels_older = cancels_older and generation > 0
        self._opening = open_message(
            prepared.batch_id,
            prepared.scope.queue_name,
            prepared.scope.name,
            uuid.uuid4().hex,
            prepared.constants,
            generation,
            prepared.scope.part_id,
        )
        self._room = None if max_outstanding is None else Outstanding(max_outstanding)
        self._source: Iterator[Chunk] = within(max_outstanding, prepared.chunks(generation))
        self._next: Chunk | None = None
        self._window = Window(_WINDOW, _WINDOW_MOST, _WINDOW_LEAST)
        # When each of those that wait was written.
        self._written: deque[float] = deque()
        self._waiting: deque[Chunk] = deque()
        self._patience = Patience(calls.settings.retry)

    async def run(self) -> None:
        """Send every row, then say that it was the last (unless the server refused some)."""
        while (error := await self._cut_short()) is not None:
            delay = self._patience.delay(error)
            if delay is None:
                raise error
            await sleep(delay)

    async def _cut_short(self) -> SpooledError | None:
        """Go as far as it goes; None: to the end."""
        try:
            await self._converse()
            if self._ledger.rejected == 0 or self._prepared.skips_rejected:
                await self._end()
        except SpooledError as error:
            return error
        return None

    async def _converse(self) -> None:
        conversation = self._calls.conversation(methods.BATCH["EnqueueBatch"], bulk=True)
        try:
            await conversation.write(self._opening)
            # Before anything large goes out, so that a refusal is read and not written into.
            opened = await _answer(conversation, "opened")
            if self._room is not None:
                self._room.learned(batch_stats_from(opened).open)
            if self._cancels_older:
                # Now that no upload can add to it any more.
                before = self._generation - 1
                await cancel_batch(self._calls, self._prepared.batch_id, before)
                self._cancels_older = False
            self._written.clear()
            for chunk in self._waiting:
                await self._write(conversation, chunk)
            while await self._fill(conversation):
                outcome = await _answer(conversation, "outcome")
                self._acknowledged(outcome)
            await conversation.done_writing()
            await conversation.read()
        finally:
            conversation.cancel()

    async def _fill(self, conversation: AsyncConversation) -> bool:
        """Keep the window full; False when nothing is on its way any more."""
        while len(self._waiting) < self._window.limit:
            chunk = self._next = self._next or next(self._source, None)
            if chunk is None:
                break
            rows = len(chunk.rows)
            if self._room is not None and not self._room.admits(rows):
                if self._waiting:
                    # First what is on its way: the server's numbers are to include it.
                    break
                await wait_for_room(self._calls, self._prepared.batch_id, self._room, rows)
            # Before it is written: what breaks in between has to be sent again.
            self._waiting.append(chunk)
            self._next = None
            await self._write(conversation, chunk)
        return bool(self._waiting)

    async def _write(self, conversation: AsyncConversation, chunk: Chunk) -> None:
        if self._room is not None:
            self._room.sent(len(chunk.rows))
        self._written.append(monotonic())
        await conversation.write(chunk.message())

    def _acknowledged(self, outcome: batch_v1.ChunkOutcome) -> None:
        chunk = self._waiting[0]
        if outcome.number != chunk.number or len(outcome.job_ids) != len(chunk.rows):
            raise ServerError(
                f"the server answered chunk {outcome.number} with {len(outcome.job_ids)} jobs "
                f"where chunk {chunk.number} with {len(chunk.rows)} was next"
            )
        answers = Answers(
            list(outcome.job_ids),
            list(outcome.duplicate_rows),
            [(refused.row, refused.message) for refused in outcome.rejected],
        )
        self._ledger.add(chunk, answers)
        self._waiting.popleft()
        self._window.answered(monotonic() - self._written.popleft())
        self._patience.moved()
        self._progress.at(self._ledger.acknowledged)

    async def _end(self) -> None:
        batch_id, part_id = self._prepared.batch_id, self._prepared.scope.part_id
        if part_id is None:
            await seal_batch(self._calls, batch_id, self._generation)
        else:
            await finish_part(self._calls, batch_id, self._generation, part_id, self._prepared.rows)


class AsyncSingleUpload:
    """Without the extension: many Enqueue calls at once, each with its key, so repeatable.

    A call that is repeated because its answer was lost counts as a duplicate: the server cannot
    tell it from one that comes a second time.
    """

    def __init__(
        self,
        calls: AsyncCalls,
        prepared: Prepared,
        ledger: Ledger,
        progress: Progress,
        max_outstanding: int | None = None,
    ) -> None:
        self._calls = calls
        self._prepared = prepared
        self._ledger = ledger
        self._progress = progress
        self._shared = shared_fields(prepared.scope.queue_name, prepared.constants)
        self._window = window_of_calls()
        self._limit = max_outstanding
        self._room: AsyncQueueRoom | None = None
        if max_outstanding is not None:
            self._room = AsyncQueueRoom(calls, prepared.scope.queue_name, max_outstanding)

    async def run(self) -> None:
        """Send every row."""
        for chunk in within(self._limit, self._prepared.chunks()):
            if self._room is not None:
                await self._room.wait_for(len(chunk.rows))
            await self._send(chunk)

    async def _send(self, chunk: Chunk) -> None:
        answers = Answers([])
        requests = chunk.requests(self._shared)
        responses = pipelined(
            self._calls, methods.QUEUE["Enqueue"], requests, self._window, InvalidArgumentError
        )
        try:
            async with aclosing(responses):
                async for response in responses:
                    place = len(answers.job_ids)
                    if isinstance(response, InvalidArgumentError):
                        answers.job_ids.append("")
                        answers.rejected.append((place, response.message))
                    else:
                        answers.job_ids.append(response.job_id)
                        if not response.created:
                            answers.duplicates.append(place)
                    if place % 100 == 0:
                        self._progress.at(self._ledger.acknowledged + place)
        finally:
            # What broke off in the middle of a chunk was acknowledged up to here.
            done = len(answers.job_ids)
            self._ledger.add(chunk.first(done), answers)
            if self._room is not None:
                self._room.sent(answers.job_ids)
        self._progress.at(self._ledger.acknowledged)


async def open_upload(calls: AsyncCalls, opening: bytes) -> None:
    """Make a batch, or find it, without any row."""
    patience = Patience(calls.settings.retry)
    while (error := await _opened(calls, opening)) is not None:
        delay = patience.delay(error)
        if delay is None:
            raise error
        await sleep(delay)


async def _opened(calls: AsyncCalls, opening: bytes) -> SpooledError | None:
    conversation = calls.conversation(methods.BATCH["EnqueueBatch"])
    try:
        await conversation.write(opening)
        await _answer(conversation, "opened")
        await conversation.done_writing()
        await conversation.read()
    except SpooledError as error:
        return error
    finally:
        conversation.cancel()
    return None


async def _answer(conversation: AsyncConversation, kind: str) -> Any:
    response = await conversation.read()
    if response is None or response.WhichOneof("response") != kind:
        what = "nothing more" if response is None else response.WhichOneof("response")
        raise ServerError(f"the server answered {what!r} where {kind!r} was next")
    return getattr(response, kind)
