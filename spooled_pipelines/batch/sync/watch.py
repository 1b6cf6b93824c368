# Made from spooled_pipelines/batch/aio/watch.py by `make proto`: change that, not this.
"""Statistics as they change: from a server that tells, or from one that has to be asked."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from spooled_pipelines.batch.patience import Patience
from spooled_pipelines.batch.sync.runtime import call_later
from spooled_pipelines.batch.sync.v1_fallback import QueueFollower
from spooled_pipelines.errors import DeadlineExceededError, SpooledError
from spooled_pipelines.rpc import methods
from spooled_pipelines.rpc.decode import batch_stats_from
from spooled_pipelines.rpc.sync.connection import Calls
from spooled_pipelines.rpc.sync.runtime import monotonic, sleep
from spooled_pipelines.types import BatchStats
from spooled_pipelines.wire import batch_v1

# How long a watcher without a deadline waits for a server that is away.
_AWAY_SECONDS = 300.0
# Between two looks at a queue that cannot be watched: short at first, then longer.
_POLL_FIRST_SECONDS, _POLL_SECONDS, _POLL_GROWTH = 0.1, 1.0, 1.5
_ANSWER_SECONDS = 30.0


def watch_stream(
    calls: Calls, batch_id: str, deadline: float | None
) -> Generator[BatchStats, None]:
    """What the server says about a batch, until the deadline (a reading of `monotonic`).

    Goes on for as long as it is asked to: whoever reads stops at `settled`.
    """
    patience = _patience(calls, deadline)
    request = batch_v1.WatchBatchRequest(batch_ids=[batch_id])
    while deadline is None or monotonic() < deadline:
        stream = calls.stream(methods.BATCH["WatchBatch"], request)
        timer = None
        if deadline is not None:
            timer = call_later(max(0.0, deadline - monotonic()), stream.cancel)
        pause = _POLL_FIRST_SECONDS
        try:
            for message in stream:
                patience.moved()
                yield batch_stats_from(message)
        except SpooledError as error:
            delay = patience.delay(error)
            if delay is None:
                raise
            pause = delay
        finally:
            if timer is not None:
                timer.cancel()
            stream.cancel()
        sleep(_until(deadline, pause))


def watch_many(calls: Calls, batch_ids: Sequence[str]) -> Generator[BatchStats, None]:
    """Yield what the server says about several batches, until the stream ends or breaks."""
    request = batch_v1.WatchBatchRequest(batch_ids=batch_ids, milestones=True)
    stream = calls.stream(methods.BATCH["WatchBatch"], request)
    try:
        for message in stream:
            yield batch_stats_from(message)
    finally:
        stream.cancel()


def watch_queue(
    calls: Calls, follower: QueueFollower, deadline: float | None
) -> Generator[BatchStats, None]:
    """The same for a server without the extension, by looking from time to time."""
    patience = _patience(calls, deadline)
    last = None
    usual = _POLL_FIRST_SECONDS
    while deadline is None or monotonic() < deadline:
        started = monotonic()
        try:
            stats = follower.stats(_until(deadline, _ANSWER_SECONDS))
        except SpooledError as error:
            late = isinstance(error, DeadlineExceededError)
            if late and deadline is not None and monotonic() >= deadline:
                # The end of the wait cut it short, which says nothing about the server.
                return
            delay = patience.delay(error)
            if delay is None:
                raise
            pause = delay
        else:
            patience.moved()
            if stats != last:
                yield stats
            last = stats
            # Looking must not become most of what the server does.
            pause = max(usual, 2 * (monotonic() - started))
            usual = min(_POLL_GROWTH * usual, _POLL_SECONDS)
        sleep(_until(deadline, pause))


def _patience(calls: Calls, deadline: float | None) -> Patience:
    seconds = _AWAY_SECONDS if deadline is None else max(0.0, deadline - monotonic())
    return Patience(calls.settings.retry, seconds)


def _until(deadline: float | None, seconds: float) -> float:
    """`seconds`, or what is left of them until the deadline."""
    return seconds if deadline is None else min(seconds, max(0.0, deadline - monotonic()))
