"""PostgreSQL's values that psycopg changes: months, given as 30 days, and numbers in JSON."""

from __future__ import annotations

from typing import Any

from spooled_pipelines.batch.values.exact_json import DECODER
from spooled_pipelines.errors import InvalidArgumentError

# The numbers of the types interval and interval[].
_INTERVALS = {1186, 1187}


def read_exactly(cursor: Any) -> None:
    """Have a cursor of psycopg that runs no query yet read values as they are, or refuse them."""
    from psycopg.types.datetime import IntervalLoader
    from psycopg.types.json import set_json_loads

    class ExactIntervalLoader(IntervalLoader):
        def load(self, data: Any) -> Any:
            text = bytes(data)
            if any(word in text for word in (b"mon", b"year", b"infinity")):
                raise InvalidArgumentError(
                    f"an interval of {text.decode()!r} has no fixed length, and psycopg would give "
                    "it one. Select it as text. Nothing was sent."
                )
            return super().load(data)

    set_json_loads(_exact_json, cursor)
    cursor.adapters.register_loader("interval", ExactIntervalLoader)


def _exact_json(data: str | bytes) -> Any:
    try:
        return DECODER.decode(data if isinstance(data, str) else data.decode())
    except ValueError as error:
        message = f"a column of JSON: {error}. Select it as text. Nothing was sent."
        raise InvalidArgumentError(message) from None


def refuse_intervals(description: Any) -> None:
    """Refuse intervals of a cursor that has run its query, so that its months are days already."""
    for name, kind, *_ in description or ():
        if kind in _INTERVALS:
            raise InvalidArgumentError(
                f"column {name!r} is an interval, of which psycopg gives a month as 30 days. Pass "
                "sql= and psycopg's own connection, or select it as text. Nothing was sent."
            )
