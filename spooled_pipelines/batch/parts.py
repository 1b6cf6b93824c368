"""Parts of a batch: values and decisions, without a server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from spooled_pipelines.errors import InvalidArgumentError, PartsMissingError
from spooled_pipelines.text import shown
from spooled_pipelines.wire.limits import PART_ID_MAX, PARTS_MAX

if TYPE_CHECKING:
    import pyarrow as pa

    from spooled_pipelines.batch.outcome.ledger import Ledger

# How many there are; or which.
ExpectedParts: TypeAlias = int | Iterable[str | int] | None
_NAMED = 10


@dataclass(frozen=True)
class BatchPart:
    """A part as the server knows it.

    Attributes:
        part_id: the id that it was added under.
        finished: whether its last row is in; False if it was half sent, or is on its way.
        rows: of the part, as reported when it was finished.
    """

    part_id: str
    finished: bool
    rows: int


@dataclass(frozen=True)
class AddedPart:
    """The result of adding a part.

    Attributes:
        part_id: of the part.
        batch_id: of the batch that it is of.
        rows: of the part.
        created: rows that this call made jobs of.
        duplicates: rows that were jobs already.
        rejected: rows that are not jobs.
        changed: those of the duplicates that have another payload than their job had; None if the
            server has no batch extension.
        replaced: those of `changed` whose payload their job has now.
    """

    part_id: str
    batch_id: str
    rows: int
    created: int
    duplicates: int
    rejected: int
    changed: int | None = None
    replaced: int | None = None
    _ledger: Ledger | None = field(default=None, repr=False, compare=False)

    @property
    def ledger(self) -> pa.Table | None:
        """A pyarrow Table, one line per row, as `Batch.ledger`; None in another process."""
        return None if self._ledger is None else self._ledger.table()

    def ledger_reader(self) -> pa.RecordBatchReader | None:
        """Return the same as a pyarrow RecordBatchReader, in flat memory."""
        return None if self._ledger is None else self._ledger.reader()

    def to_dict(self) -> dict[str, Any]:
        """Return a small dict for `seal(added=...)` in another process."""
        return {name: value for name, value in vars(self).items() if name != "_ledger"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AddedPart:
        """Return what `to_dict` described.

        Raises:
            InvalidArgumentError: the dict is not one of a part.
        """
        names = [one.name for one in fields(cls) if one.name != "_ledger"]
        if not isinstance(values, Mapping) or set(values) != set(names):
            raise InvalidArgumentError(
                f"a part's dict has {', '.join(names)}, and this is {type(values).__name__}"
                f"{sorted(map(str, values)) if isinstance(values, Mapping) else ''}: pass what "
                "add() returned, or its to_dict()"
            )
        return cls(**values)


@dataclass(frozen=True)
class MissingParts:
    """The parts that keep a batch from being sealed.

    Attributes:
        part_ids: those that are not in, as far as they have a name.
        finished: how many of the expected ones are in.
        expected: how many there have to be; None: as many as have begun.
        unnamed: how many more are missing; below 0, how many there are too many.
    """

    part_ids: tuple[str, ...]
    finished: int
    expected: int | None
    unnamed: int = 0


def parse_part_id(part_id: str | int) -> str:
    """Return a part's id as text; a number becomes its digits."""
    if isinstance(part_id, int) and not isinstance(part_id, bool):
        return str(part_id)
    if not isinstance(part_id, str) or not 1 <= len(part_id) <= PART_ID_MAX:
        raise InvalidArgumentError(
            f"part_id must be a text of 1 to {PART_ID_MAX} characters or a number, got "
            f"{shown(part_id)}"
        )
    return part_id


def parse_expected_parts(expected: ExpectedParts) -> tuple[int | None, tuple[str, ...]]:
    """Return how many parts are expected, and which."""
    if expected is None:
        return None, ()
    if isinstance(expected, int) and not isinstance(expected, bool):
        if not 0 <= expected < 2**31:
            raise InvalidArgumentError(
                f"expected_parts must be from 0 to {2**31 - 1}, got {expected}"
            )
        return expected, ()
    if isinstance(expected, str | bytes) or not isinstance(expected, Iterable):
        raise InvalidArgumentError(
            f"expected_parts must be the number of parts or their ids, got {shown(expected)}"
        )
    part_ids = tuple(dict.fromkeys(parse_part_id(one) for one in expected))
    if not part_ids:
        return 0, ()
    if len(part_ids) > PARTS_MAX:
        raise InvalidArgumentError(
            f"expected_parts has {len(part_ids)} ids, and at most {PARTS_MAX} can be named: pass "
            "how many they are"
        )
    return None, part_ids


def find_missing_parts(
    parts: Sequence[BatchPart], count: int | None, part_ids: Sequence[str]
) -> MissingParts | None:
    """Return what keeps a batch of these parts from being sealed, or None."""
    finished = {part.part_id for part in parts if part.finished}
    if part_ids:
        absent = tuple(one for one in part_ids if one not in finished)
        here = len(part_ids) - len(absent)
        return MissingParts(absent, here, len(part_ids)) if absent else None
    unfinished = tuple(part.part_id for part in parts if not part.finished)
    unnamed = 0 if count is None else count - len(parts)
    if unfinished or unnamed:
        return MissingParts(unfinished, len(finished), count, unnamed)
    return None


def parts_missing_error(batch_id: str, missing: MissingParts, known: str = "") -> PartsMissingError:
    """Return the error that names them; `known` says how they are known."""
    finished, expected = missing.finished, missing.expected
    of = "" if expected is None else f" of {expected}"
    message = f"batch {batch_id} is not sealed: {finished}{of} parts are in."
    if missing.part_ids:
        named = ", ".join(repr(one) for one in missing.part_ids[:_NAMED])
        more = len(missing.part_ids) - _NAMED
        message += f" Missing: {named}{f' and {more} more' if more > 0 else ''}."
    if missing.unnamed > 0:
        message += f" {missing.unnamed} more have not begun."
    elif missing.unnamed < 0:
        message += " Pass the ids of the parts you expect as expected_parts."
    message += f"{known} Add what is missing, and seal it then."
    return PartsMissingError(
        message,
        missing=missing.part_ids,
        finished=finished,
        expected=expected,
        details={"batch_id": batch_id},
    )


def options_to_dict(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as JSON can hold them.

    Raises:
        InvalidArgumentError: one is nothing that JSON knows.
    """
    return {name: _to_jsonable(name, value) for name, value in options.items()}


def options_from_dict(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that `options_to_dict` was given."""
    return {name: _from_jsonable(value) for name, value in options.items()}


def _to_jsonable(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, timedelta):
        return {"microseconds": value // timedelta(microseconds=1)}
    if isinstance(value, Mapping):
        return {"mapping": {str(key): _to_jsonable(name, one) for key, one in value.items()}}
    if isinstance(value, list | tuple):
        return [_to_jsonable(name, one) for one in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise InvalidArgumentError(
        f"{name}= is a {type(value).__name__}, which cannot go to another process in a dict: pass "
        f"{name}= to add() there instead of to open_batch()"
    )


def _from_jsonable(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_jsonable(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    ((tag, content),) = value.items()
    if tag == "datetime":
        return datetime.fromisoformat(content)
    if tag == "microseconds":
        return timedelta(microseconds=content)
    return {key: _from_jsonable(one) for key, one in cast("Mapping[str, Any]", content).items()}
