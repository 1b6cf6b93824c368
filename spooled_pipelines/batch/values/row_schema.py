"""The Arrow schema that payloads came with, which is read, and pyarrow loaded, when it is used."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from spooled_pipelines.batch.values.row_values import Read


class RowSchema:
    """The Arrow schema that payloads came with. It may be sent to another process.

    Two are equal that say the same, of whichever batches.

    Attributes:
        number: what it is called by the server: another one for each batch.
    """

    def __init__(self, serialized: bytes, number: int) -> None:
        self._serialized = serialized
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RowSchema) and self._serialized == other._serialized

    def __hash__(self) -> int:
        return hash(self._serialized)

    @property
    def arrow(self) -> pa.Schema:
        """The same as an Arrow schema."""
        return _parsed(self._serialized)[0]

    def row(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Return a payload's values as what they were, in the table's order.

        Raises:
            InvalidArgumentError: a field's value, as of a payload that was changed since, is not
                of its type.
        """
        from spooled_pipelines.batch.values.row_values import read_row

        return read_row(*_parsed(self._serialized), payload)

    def __reduce__(self) -> tuple[object, ...]:
        return row_schema, (self._serialized, self.number)


# One for all jobs of a batch, also where each of them comes from another process.
@lru_cache(maxsize=256)
def row_schema(serialized: bytes, number: int = 0) -> RowSchema:
    """Return the schema of an IPC message."""
    return RowSchema(serialized, number)


@lru_cache(maxsize=256)
def _parsed(serialized: bytes) -> tuple[pa.Schema, Mapping[str, Read | None]]:
    import pyarrow as pa

    from spooled_pipelines.batch.values.row_values import readers_of

    schema = pa.ipc.read_schema(pa.py_buffer(serialized))
    return schema, readers_of(schema)
