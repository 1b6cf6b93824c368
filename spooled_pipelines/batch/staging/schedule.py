"""Jobs that do not fall due all at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.encoding import protobuf_wire
from spooled_pipelines.batch.encoding.columns import by_value
from spooled_pipelines.batch.staging.idempotency import hash_fractions
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc import validation

_MILLISECOND = 1_000_000


@dataclass(frozen=True)
class Spreading:
    """When each row is due, from a start on.

    Attributes:
        start: nanoseconds since the epoch.
        window: nanoseconds over which the rows are spread, each by its key, so that it has the
            same place in any order of the rows and in every run.
        interval: nanoseconds between one row and the next, in the table's order; instead of
            `window`.
    """

    start: int
    window: int = 0
    interval: float = 0.0

    def due(self, hashes: Any, first: int) -> Any:
        """The field scheduled_at of rows by their keys' hashes, the first of which is number
        `first` of those that are sent."""
        if self.window:
            offsets = pc.multiply(hash_fractions(hashes), float(self.window))
        else:
            numbers = pa.array(range(first, first + len(hashes)), pa.float64())
            offsets = pc.multiply(numbers, self.interval)
        steps = pc.floor(pc.divide(offsets, float(_MILLISECOND))).cast(pa.int64())

        def field(step: int) -> bytes:
            moment = protobuf_wire.timestamp(self.start + step * _MILLISECOND)
            return protobuf_wire.with_length(protobuf_wire.SCHEDULED_AT, moment)

        return by_value(steps, field)


def make_spreading(
    spread: timedelta | None, rate: float | None, scheduled_at: datetime | str | None
) -> Spreading | None:
    """Check `spread=` and `rate=`; they start at `scheduled_at`, or now.

    Raises:
        InvalidArgumentError: one of them is not what it has to be.
    """
    if spread is None and rate is None:
        return None
    if spread is not None and rate is not None:
        raise InvalidArgumentError("pass spread= or rate=, not both: each says when rows are due.")
    if isinstance(scheduled_at, str):
        raise InvalidArgumentError(
            f"scheduled_at={scheduled_at!r} gives each row its own time, so there is nothing to "
            "spread. Pass one time as scheduled_at, or none for now."
        )
    start = datetime.now(timezone.utc) if scheduled_at is None else scheduled_at
    begins = validation.timestamp(start, "scheduled_at").ToNanoseconds()
    if spread is not None:
        if not isinstance(spread, timedelta) or not timedelta(0) < spread <= timedelta(days=366):
            raise InvalidArgumentError(
                f"spread={spread!r}: pass a timedelta of more than nothing and at most 366 days."
            )
        return Spreading(begins, window=spread // timedelta(microseconds=1) * 1_000)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < math.inf:
        raise InvalidArgumentError(f"rate={rate!r}: pass how many jobs a second fall due.")
    return Spreading(begins, interval=1e9 / rate)
