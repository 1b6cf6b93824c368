"""Rows of a chunk as PostgreSQL's binary COPY format, without a step of Python for each value."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

from spooled_pipelines.server.core.batches.records import Chunk
from spooled_pipelines.server.core.batches.rules import due_of_chunk, status_when_due
from spooled_pipelines.server.core.jobs.idempotency_keys import digests_of
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.turns import ROUND, Rounds
from spooled_pipelines.server.store.postgres.reads.records import HASH_MARK, stored_key

if TYPE_CHECKING:
    # Imported by the first chunk: a server that has none does without.
    import numpy as np
    from numpy.typing import NDArray

    _Column: TypeAlias = Sequence[int] | NDArray[np.int64]
    # Of a block: bytes that all rows have, or as many for each row.
    _Piece: TypeAlias = bytes | NDArray[np.uint8]

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_INT8 = struct.Struct(">iq")
_LENGTH = struct.Struct(">i")
_COUNT = struct.Struct(">h")


def stored_keys(keys: Sequence[str]) -> list[bytes]:
    """Return `records.stored_key` of each, at once where all are hashes."""
    hashes = digests_of(keys, HASH_MARK)
    return [stored_key(key) for key in keys] if hashes is None else hashes


class Copy:
    """A chunk ready to be copied: `statement(table)`, then `data`.

    Rows are sorted by key: two uploads of the same rows in another order would wait for each
    other for ever. It also keeps the index of keys from being touched all over for each row, and
    spreads jobs that are claimed together over many pages, in which there is room for their next
    versions.
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
        rounds: Rounds | Sequence[int],
        now: int,
    ) -> None:
        import numpy as np

        rows = len(keys)
        key_bytes = len(keys[0]) if len(set(map(len, keys))) == 1 else 0
        if key_bytes:
            joined = np.frombuffer(b"".join(keys), f"S{key_bytes}")
            order = np.argsort(joined, kind="stable")
        else:
            order = np.array(sorted(range(rows), key=keys.__getitem__), np.int64)
        due = due_of_chunk(chunk, now)
        statuses = list(map(status_when_due, due)) if due is not None else Status.PENDING
        each_round: _Column | Rounds = rounds
        if isinstance(each_round, Rounds):
            each_round = (each_round.first + each_round.length * np.arange(rows)) // ROUND
        numbers: dict[str, tuple[_Column | int, int]] = {
            "organization": (organization, 4),
            "queue": (queue, 4),
            "batch": (batch, 8),
            "created_at": (now, 8),
            "status": (statuses, 2),
            "priority": (chunk.priorities, 2),
            "max_retries": (chunk.max_retries, 2),
            "timeout_seconds": (chunk.timeout_seconds, 4),
            "round": (each_round, 8),
            "seq": (np.arange(first, first + rows), 8),
        }
        if chunk.schema_id is not None:
            numbers["schema_id"] = (chunk.schema_id, 8)
        given = {
            "due_at": _moments(due, order),
            "fair_key": _moments(chunk.fair_keys, order),
            "limit_key": _moments(chunk.limit_keys, order),
            "scheduled_at": _moments(chunk.scheduled_at, order),
            "expires_at": _moments(chunk.expires_at, order),
            "retry_backoff": _texts(chunk.retry_backoff, order),
            "tags": _texts(chunk.tags, order),
        }
        pieces: list[_Piece] = []
        for values, size in numbers.values():
            pieces += _numbers(values, size, order)
        names = [*numbers]
        if key_bytes:
            names.append("idempotency_key")
            pieces += [_LENGTH.pack(key_bytes), joined[order].view(np.uint8).reshape(rows, -1)]
        else:
            given["idempotency_key"] = _texts(keys, order)
        # What is as long in each row is one block, with the length of the payload behind it.
        pieces += _numbers(list(map(len, chunk.payloads)), _LENGTH.size, order)[1:]
        # What no row has is left out.
        others = {name: column for name, column in given.items() if column is not None}
        self._names = ", ".join((*names, "payload", *others))
        count = _COUNT.pack(len(names) + 1 + len(others))
        payloads = map(chunk.payloads.__getitem__, order.tolist())
        parts = zip(_rows_of([count, *pieces], rows), payloads, *others.values(), strict=True)
        self.data = b"".join(chain((_SIGNATURE,), chain.from_iterable(parts), (_END,)))

    def statement(self, table: str) -> bytes:
        """Return the COPY into a table that has the columns of `jobs`."""
        return f"COPY {table} ({self._names}) FROM STDIN (FORMAT BINARY)".encode()


def _numbers(values: _Column | int, size: int, order: NDArray[np.int64]) -> list[_Piece]:
    """Return the lengths, then the numbers."""
    import numpy as np

    head = _LENGTH.pack(size)
    if isinstance(values, int):
        return [head + values.to_bytes(size, "big", signed=True)]
    column = np.array(values, f">i{size}")[order]
    return [head, column.view(np.uint8).reshape(-1, size)]


def _rows_of(pieces: Sequence[_Piece], rows: int) -> list[bytes]:
    """Return the pieces of each row as one."""
    import numpy as np

    columns = [
        np.broadcast_to(np.frombuffer(piece, np.uint8), (rows, len(piece)))
        if isinstance(piece, bytes)
        else piece
        for piece in pieces
    ]
    block = np.hstack(columns)
    return block.view(f"V{block.shape[1]}").ravel().tolist()


def _moments(
    values: Sequence[int | None] | int | None, order: NDArray[np.int64]
) -> list[bytes] | None:
    if values is None:
        return None
    if isinstance(values, int):
        return [_INT8.pack(8, values)] * len(order)
    return [_NULL if (moment := values[row]) is None else _INT8.pack(8, moment) for row in order]


def _texts(
    values: Sequence[bytes | str | None] | bytes | str | None, order: NDArray[np.int64]
) -> list[bytes] | None:
    if values is None:
        return None
    if isinstance(values, bytes | str):
        return [_text(values)] * len(order)
    return [_text(values[row]) for row in order]


def _text(value: bytes | str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.encode() if isinstance(value, str) else value
    return _LENGTH.pack(len(data)) + data
