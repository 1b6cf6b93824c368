"""The types of payloads and results that were kept with a batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import types

from spooled_pipelines.batch.decoding.payload_columns import MIXED, PayloadColumns
from spooled_pipelines.batch.encoding.payload_types import key_of
from spooled_pipelines.batch.values.table_arrays import table_array


@dataclass(frozen=True)
class KnownTypes:
    """The types of the fields of all payloads, or of all results.

    Attributes:
        types: by name, in the order of the table: the key's fields first.
        names: the same order, with fields whose type is not known.
    """

    types: dict[str, pa.DataType]
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, schemas: Iterable[pa.Schema]) -> KnownTypes:
        """Return what several schemas say, where they agree; nothing where there is none."""
        found: dict[str, pa.DataType] = {}
        key: dict[str, None] = {}
        for schema in schemas:
            key.update(dict.fromkeys(key_of(schema)))
            for field in schema:
                before = found.get(field.name, pa.null())
                if types.is_null(before):
                    found[field.name] = field.type
                elif not types.is_null(field.type) and field.type != before:
                    # To be found in the values; JSON's own type says nothing about them.
                    found[field.name] = pa.json_()
        known = {
            name: kind
            for name, kind in found.items()
            if not types.is_null(kind) and not isinstance(kind, pa.JsonType)
        }
        names = (*(name for name in key if name in found), *(n for n in found if n not in key))
        return cls({name: known[name] for name in names if name in known}, names)

    def merged(self, inferred: dict[str, pa.DataType | None]) -> dict[str, pa.DataType | None]:
        """Return the fields that were found, with the types that are known, in order."""
        others = sorted(inferred.keys() - self.names)
        names = [name for name in self.names if name in inferred or name in self.types]
        return {
            name: self.types[name] if name in self.types else inferred.get(name, MIXED)
            for name in (*names, *others)
        }

    def array(self, columns: PayloadColumns, name: str) -> pa.Array:
        """Return the values of a field whose type is known.

        Raises:
            MisfitError: a value is not of it.
        """
        kind = self.types[name]
        if name not in columns.arrays:
            return pa.nulls(len(columns.payloads), kind)
        return table_array(columns.arrays[name], lambda: columns.values(name), kind)


NOTHING_KNOWN = KnownTypes({})
