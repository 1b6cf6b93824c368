"""Rows of a chunk as PostgreSQL's binary COPY format, without a step of Python for each value."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat

from spooled_pipelines.server.core.batches.records import Chunk
from spooled_pipelines.server.core.batches.rules import due_of_chunk, status_when_due
from spooled_pipelines.server.core.jobs.idempotency_keys import digests_of
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.store.postgres.reads.records import HASH_MARK, stored_key

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_INT2, _INT4, _INT8 = struct.Struct(">ih"), struct.Struct(">ii"), struct.Struct(">iq")
_LENGTH = struct.Struct(">i")
_COUNT = struct.Struct(">h")

# A column that has one value for the whole chunk, encoded; or a value for each row.
_Column = bytes | Iterable[bytes]


def stored_keys(keys: Sequence[str]) -> list[bytes]:
    """Return `records.stored_key` of each, at once where all are hashes."""
    digests = digests_of(keys)
    if digests is not None:
        return [HASH_MARK + digest for digest in digests]
    return [stored_key(key) for key in keys]


class Copy:
    """A chunk ready to be copied: `statement(table)`, then `data`.

    Rows are sorted by key: two uploads of the same rows in another order would wait for each
    other for ever. It also keeps the index of keys from being touched all over for each row.
    """

    def __init__(
        self,
        chunk: Chunk,
        keys: Sequence[bytes],
        *,
        first: int,
        organization: int,
        queue: int,
        batch: int,
        rounds: Iterable[int],
        now: int,
    ) -> None:
        rows = len(keys)
        order = sorted(range(rows), key=keys.__getitem__)
        due = due_of_chunk(chunk, now)
        statuses = list(map(status_when_due, due)) if due is not None else Status.PENDING
        columns: dict[str, _Column] = {
            "organization": _numbers(_INT4, organization, order),
            "queue": _numbers(_INT4, queue, order),
            "batch": _numbers(_INT8, batch, order),
            "created_at": _numbers(_INT8, now, order),
            "status": _numbers(_INT2, statuses, order),
            "priority": _numbers(_INT2, chunk.priorities, order),
            "max_retries": _numbers(_INT2, chunk.max_retries, order),
            "timeout_seconds": _numbers(_INT4, chunk.timeout_seconds, order),
            "round": _numbers(_INT8, list(rounds), order),
            "due_at": _moments(due, order),
            "fair_key": _moments(chunk.fair_keys, order),
            "limit_key": _moments(chunk.limit_keys, order),
            "scheduled_at": _moments(chunk.scheduled_at, order),
            "expires_at": _moments(chunk.expires_at, order),
            "retry_backoff": _texts(chunk.retry_backoff, order),
            "schema_id": _NULL if chunk.schema_id is None else _INT8.pack(8, chunk.schema_id),
            "tags": _texts(chunk.tags, order),
            "seq": map(_INT8.pack, repeat(8), map(first.__add__, order)),
            "idempotency_key": _each(keys, order),
            "payload": _each(chunk.payloads, order),
        }
        # What all rows have in common comes first, as one piece.
        common = {name: column for name, column in columns.items() if isinstance(column, bytes)}
        varying = {name: column for name, column in columns.items() if name not in common}
        head = _COUNT.pack(len(columns)) + b"".join(common.values())
        parts = zip(repeat(head, rows), *varying.values(), strict=True)
        self._names = ", ".join((*common, *varying))
        self.data = b"".join(chain((_SIGNATURE,), chain.from_iterable(parts), (_END,)))

    def statement(self, table: str) -> bytes:
        """Return the COPY into a table that has the columns of `jobs`."""
        return f"COPY {table} ({self._names}) FROM STDIN (FORMAT BINARY)".encode()


def _numbers(kind: struct.Struct, values: Sequence[int] | int, order: Sequence[int]) -> _Column:
    size = kind.size - _LENGTH.size
    if isinstance(values, int):
        return kind.pack(size, values)
    return map(kind.pack, repeat(size), map(values.__getitem__, order))


def _moments(values: Sequence[int | None] | int | None, order: Sequence[int]) -> _Column:
    if values is None:
        return _NULL
    if isinstance(values, int):
        return _INT8.pack(8, values)
    return [_NULL if (moment := values[row]) is None else _INT8.pack(8, moment) for row in order]


def _texts(
    values: Sequence[bytes | str | None] | bytes | str | None, order: Sequence[int]
) -> _Column:
    if values is None or isinstance(values, bytes | str):
        return _text(values)
    return [_text(values[row]) for row in order]


def _text(value: bytes | str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.encode() if isinstance(value, str) else value
    return _LENGTH.pack(len(data)) + data


def _each(values: Sequence[bytes], order: Sequence[int]) -> Iterator[bytes]:
    in_order = list(map(values.__getitem__, order))
    lengths = map(_LENGTH.pack, map(len, in_order))
    return map(bytes.__add__, lengths, in_order)
