"""The version of a lake table (Delta, Iceberg) that is to be read."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TypeAlias

from spooled_pipelines.errors import InvalidArgumentError

# Delta's number or Iceberg's snapshot id; the newest one at a time; Iceberg's tag or branch.
TableVersion: TypeAlias = int | datetime | str
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def milliseconds(time: datetime) -> int:
    """Return a time as lakes count it, without what is less than a millisecond."""
    return (time - _EPOCH) // timedelta(milliseconds=1)


def parse_table_version(value: object) -> TableVersion | None:
    """Return the version that an option says, whose text may be a number or a time.

    Raises:
        InvalidArgumentError: it says none.
    """
    if isinstance(value, str):
        value = _from_text(value.strip())
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidArgumentError(
                f"table_version: a time must have a zone, got {value.isoformat()}."
            )
        if value > datetime.now(timezone.utc):
            raise InvalidArgumentError(
                f"table_version: the time must be past, got {value.isoformat()}: what the table "
                "will hold then is not certain yet."
            )
        return value
    if value is None or (isinstance(value, str) and value):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise InvalidArgumentError(
        "table_version must be a number (Delta's version, Iceberg's snapshot id), a time with a "
        f"zone, or the name of one of Iceberg's tags or branches, got {value!r}."
    )


def _from_text(text: str) -> TableVersion:
    if text.isdecimal():
        return int(text)
    try:
        # Python 3.10 knows no Z.
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return text
    return time if len(text) > len("2030-01-31") else text
