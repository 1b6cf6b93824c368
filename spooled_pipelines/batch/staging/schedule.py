"""Jobs that do not fall due all at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.encoding import protobuf_wire
from spooled_pipelines.batch.encoding.columns import map_distinct
from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.batch.staging.idempotency import hash_fractions
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc import validation

_MILLISECOND = 1_000_000
_SPREAD_MAX = timedelta(days=366)


@dataclass(frozen=True)
class ScheduleSpread:
    """When each row is due, from a start on.

    Attributes:
        start: nanoseconds since the epoch.
        span: nanoseconds over which the rows are spread, each by its key, so that it is due at the
            same time in any order of the rows and in every run.
        interval: nanoseconds between one row and the next, in the table's order; instead of `span`.
    """

    start: int
    span: int = 0
    interval: float = 0.0

    def due(self, hashes: pa.FixedSizeBinaryArray, first: int) -> pa.BinaryArray:
        """Return the field scheduled_at of rows by the hashes of their keys.

        The first of them is number `first` of the rows that are sent.
        """
        if self.span:
            offsets = pc.multiply(hash_fractions(hashes), float(self.span))
        else:
            numbers = pa.array(range(first, first + len(hashes)), pa.float64())
            offsets = pc.multiply(numbers, self.interval)
        steps = pc.floor(pc.divide(offsets, float(_MILLISECOND))).cast(pa.int64())

        def field(step: int) -> bytes:
            moment = protobuf_wire.timestamp(self.start + step * _MILLISECOND)
            return protobuf_wire.bytes_field(protobuf_wire.SCHEDULED_AT, moment)

        return map_distinct(steps, field)


def parse_spread(options: RowOptions) -> ScheduleSpread | None:
    """Check `spread=` and `rate=`; they start at `scheduled_at`, or now.

    Raises:
        InvalidArgumentError: one of them is out of range, or both are given.
    """
    spread, rate, scheduled_at = options.spread, options.rate, options.scheduled_at
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
    start_ns = validation.timestamp(start, "scheduled_at").ToNanoseconds()
    if spread is not None:
        if not isinstance(spread, timedelta) or not timedelta(0) < spread <= _SPREAD_MAX:
            raise InvalidArgumentError(
                f"spread must be a positive timedelta of at most 366 days, got {spread!r}."
            )
        return ScheduleSpread(start_ns, span=spread // timedelta(microseconds=1) * 1_000)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < math.inf:
        raise InvalidArgumentError(f"rate must be a number of jobs a second above 0, got {rate!r}.")
    return ScheduleSpread(start_ns, interval=1e9 / rate)
