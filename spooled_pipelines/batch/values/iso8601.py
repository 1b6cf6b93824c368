"""Times as ISO 8601 text, the same text whatever unit the column has.

A fraction of a second is written with 0, 3, 6 or 9 digits, as few as hold the value, so that
a time read as nanoseconds from pandas and as milliseconds from Parquet gives the same payload.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

_UNITS = ("s", "ms", "us", "ns")
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def timestamp_text(array: pa.TimestampArray) -> pa.StringArray:
    """Return ``2013-01-01T05:00:00``, with a ``Z`` after it if the type has a time zone."""
    zone = array.type.tz
    # The number in an aware timestamp is in UTC: without its zone it prints as UTC.
    counts = array.cast(pa.int64())
    text = _by_fraction(counts, array.type.unit, pa.timestamp)
    text = pc.replace_substring(text, " ", "T", max_replacements=1)
    return text if zone is None else pc.binary_join_element_wise(text, "Z", "")


def time_text(array: pa.Time32Array | pa.Time64Array) -> pa.StringArray:
    """Return ``05:00:00``, with a fraction where there is one."""
    width = pa.int32() if array.type.unit in ("s", "ms") else pa.int64()
    counts = array.cast(width).cast(pa.int64())
    return _by_fraction(counts, array.type.unit, _time_of_unit)


def date_text(array: pa.Date32Array | pa.Date64Array) -> pa.StringArray:
    """Return ``2013-01-01``."""
    return array.cast(pa.string())


def duration_text(array: pa.DurationArray) -> pa.StringArray:
    """Return ``P1DT2H0M0.5S``; a negative duration has its sign in front of the P."""
    distinct = array.cast(pa.int64()).dictionary_encode()
    per_second = PER_SECOND[array.type.unit]
    texts = [_duration(count, per_second) for count in distinct.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(distinct.indices)


def _duration(count: int, per_second: int) -> str:
    seconds, fraction = divmod(abs(count), per_second)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    digits = f"{fraction * 1_000_000_000 // per_second:09d}".rstrip("0")
    sign = "-" if count < 0 else ""
    return f"{sign}P{days}DT{hours}H{minutes}M{seconds}{'.' + digits if digits else ''}S"


def _time_of_unit(unit: str) -> pa.DataType:
    return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)


def _by_fraction(
    counts: pa.Int64Array, unit: str, type_of_unit: Callable[[str], pa.DataType]
) -> pa.StringArray:
    """Print each value in the coarsest unit that holds it."""
    text = None
    done = None
    for coarse in _UNITS[: _UNITS.index(unit) + 1]:
        factor = PER_SECOND[unit] // PER_SECOND[coarse]
        quotients = pc.divide(counts, factor) if factor > 1 else counts
        fits = pc.equal(pc.multiply(quotients, factor), counts)
        # In a coarser unit the same count could be out of range; what does not fit is not used.
        printed = _print(quotients, type_of_unit(coarse))
        text = printed if text is None else pc.if_else(done, text, printed)
        done = fits
        if pc.all(fits, min_count=0).as_py():
            break
    return text


def _print(counts: pa.Int64Array, arrow_type: pa.DataType) -> pa.StringArray:
    if pa.types.is_time32(arrow_type):
        counts = counts.cast(pa.int32())
    return counts.cast(arrow_type).cast(pa.string())
