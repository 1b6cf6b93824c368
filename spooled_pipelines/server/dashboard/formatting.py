"""Values as people read them. What comes from outside is hostile until it went through here."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from typing import Any

from spooled_pipelines.text import plain
from spooled_pipelines.wire.well_known import Struct, Timestamp, Value

PAYLOAD_SHOWN_MAX = 100_000
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def number(value: float) -> str:
    """Return a number as 27 004, with spaces that do not break."""
    return f"{value:,.0f}".replace(",", "\u202f")


def rate(value: float | None) -> str:
    """Return jobs a second, to two digits."""
    if value is None:
        return "…"
    if value == 0:
        return "0"
    return number(value) if value >= 10 else f"{value:.1f}" if value >= 0.1 else "< 0.1"


def duration(seconds: float) -> str:
    """Return 5 s, 3 min, 2 h or 4 d: in the largest unit that fits."""
    if not math.isfinite(seconds):
        return "…"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{number(seconds // size)}\u00a0{unit}"
    return f"{max(seconds, 0):.0f}\u00a0s"


def moment(value: Timestamp) -> str:
    """Return a moment as 2026-11-25 22:30:05, in UTC."""
    return when(value).strftime("%Y-%m-%d %H:%M:%S")


def when(value: Timestamp) -> datetime:
    """Return the moment of a Timestamp, which has passed the checks of the server."""
    return datetime.fromtimestamp(value.seconds, tz=timezone.utc)


def milliseconds(value: Timestamp) -> int:
    """Return a Timestamp in milliseconds since the epoch."""
    return value.seconds * 1000 + value.nanos // 1_000_000


def payload(value: Struct) -> str:
    """Return a payload as JSON, shortened, with its invisible characters made visible."""
    text = plain(json.dumps(_python(value), indent=2, ensure_ascii=False))
    if len(text) <= PAYLOAD_SHOWN_MAX:
        return text
    rest = number(len(text) - PAYLOAD_SHOWN_MAX)
    return f"{text[:PAYLOAD_SHOWN_MAX]}\n… and {rest} characters more"


def _python(value: Any) -> Any:
    if isinstance(value, Struct):
        # A map has no order of its own, and each reading would be another.
        return {name: _python(field) for name, field in sorted(value.fields.items())}
    if not isinstance(value, Value):
        return [_python(item) for item in value.values]
    kind = value.WhichOneof("kind")
    if kind in ("struct_value", "list_value"):
        return _python(getattr(value, kind))
    if kind == "number_value":
        found = value.number_value
        return int(found) if found.is_integer() else found
    return None if kind in (None, "null_value") else getattr(value, kind)
