"""The options of `enqueue_batch` and of its relatives: each is defined here, and nowhere else."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar, get_args

from spooled_pipelines.batch.options.table_version import TableVersion, parse_table_version
from spooled_pipelines.batch.options.text_options import TextOptions, parse_text_options
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.retry_backoff import RetryBackoffOption, is_backoff
from spooled_pipelines.rpc import validation
from spooled_pipelines.types import BatchStats, StrPath
from spooled_pipelines.wire.limits import PER_KEY_MAX, WEIGHT_MAX

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pydantic import BaseModel

# Makes the payload's columns of a record batch: a record batch, a table or a data frame.
PayloadFunction: TypeAlias = "Callable[[pa.RecordBatch], Any]"
# Columns; field -> column; a column of objects; or the function that makes the payloads.
PayloadOption: TypeAlias = "Sequence[str] | Mapping[str, str] | str | PayloadFunction | None"
PayloadSchema: TypeAlias = "Mapping[str, Any] | type[BaseModel]"
# For all rows; columns that each are a tag; or a column of structs or maps.
TagsOption: TypeAlias = Mapping[str, str] | Sequence[str] | str | None
# (column, operator, value) tuples that all have to be true, or a list of such lists.
RowFilter: TypeAlias = "pc.Expression | Sequence[tuple[str, str, Any]] | Sequence[Any]"
# A column, and how many jobs of each of its values may run at once.
LimitByOption: TypeAlias = tuple[str, int] | Sequence[Any]
# Bound to the placeholders of a query, in order or by name, as its driver writes them.
SqlParameters: TypeAlias = Sequence[Any] | Mapping[str, Any]
OnRejected: TypeAlias = Literal["raise", "skip"]
Lossy: TypeAlias = Literal["raise", "string", "null", "round"]
# For all columns, or by the name of each; "raise" for those without.
OnLossy: TypeAlias = Lossy | Mapping[str, Lossy]
# Of rows with the key of a job and another payload.
OnChanged: TypeAlias = Literal["keep", "raise", "replace"]
OnRerun: TypeAlias = Literal["resume", "retry_failed", "fresh"]
# What a server needs the batch extension for.
NEEDS_TURNS = "weight=, fair_by= or limit_by= (without them jobs go by priority and age)"
NEEDS_BACKOFF = "retry_backoff= (without it pauses are 1, 2, 4 minutes and so on)"
NEEDS_EXPIRY = "expires_at= or ttl="
_Function = TypeVar("_Function", bound=Callable[..., Any])


class JobOptions(TypedDict, total=False):
    """How a row becomes a job."""

    key: str | Sequence[str] | None
    payload: PayloadOption
    payload_schema: PayloadSchema | None
    priority: int | str | None
    scheduled_at: datetime | str | None
    max_retries: int | str | None
    timeout_seconds: int | str | None
    retry_backoff: RetryBackoffOption | None
    weight: int | None
    fair_by: str | None
    expires_at: datetime | str | None
    ttl: float | timedelta | str | None
    limit_by: LimitByOption | None
    tags: TagsOption
    spread: timedelta | None
    on_rejected: OnRejected
    on_lossy: OnLossy
    on_changed: OnChanged


class PartOptions(JobOptions, total=False):
    """The same, and what is read of the data."""

    columns: Sequence[str] | None
    where: RowFilter | None
    index: bool
    sql: str | None
    connection: Any
    parameters: SqlParameters | None
    text_options: TextOptions | Mapping[str, Any] | None
    table_version: TableVersion | None
    rate: float | None
    ledger: StrPath | None


class BatchOptions(PartOptions, total=False):
    """All options of a whole table."""

    name: str | None


class EnqueueOptions(BatchOptions, total=False):
    """The same, and what one call of `enqueue_batch` does with the batch."""

    on_rerun: OnRerun
    max_outstanding: int | None


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """The same as `BatchOptions`, checked, with every default; and the part, where it is one.

    Raises:
        InvalidArgumentError: an option is not one of its choices.
    """

    columns: Sequence[str] | None = None
    where: RowFilter | None = None
    index: bool = False
    sql: str | None = None
    connection: Any = None
    parameters: SqlParameters | None = None
    text_options: TextOptions | Mapping[str, Any] | None = None
    table_version: TableVersion | None = None
    key: str | Sequence[str] | None = None
    payload: PayloadOption = None
    payload_schema: PayloadSchema | None = None
    priority: int | str | None = None
    scheduled_at: datetime | str | None = None
    max_retries: int | str | None = None
    timeout_seconds: int | str | None = None
    retry_backoff: RetryBackoffOption | None = None
    weight: int | None = None
    fair_by: str | None = None
    expires_at: datetime | str | None = None
    ttl: float | timedelta | str | None = None
    limit_by: LimitByOption | None = None
    tags: TagsOption = None
    spread: timedelta | None = None
    rate: float | None = None
    name: str | None = None
    on_rejected: OnRejected = "raise"
    on_lossy: OnLossy = "raise"
    on_changed: OnChanged = "keep"
    ledger: StrPath | None = None
    # The data is this part of the batch, and may have no rows.
    part_id: str | None = None

    def __post_init__(self) -> None:
        parse_text_options(self.text_options)
        parse_table_version(self.table_version)
        backoff = self.retry_backoff
        # Any other text is a column.
        if backoff is not None and (not isinstance(backoff, str) or is_backoff(backoff)):
            validation.retry_backoff(backoff)
        if self.weight is not None:
            validation.whole(self.weight, "weight", 1, WEIGHT_MAX)
        validation.expiry(self.ttl, self.expires_at)
        parse_limit_by(self.limit_by)
        validation.one_of(self.on_rejected, "on_rejected", get_args(OnRejected))
        validation.one_of(self.on_changed, "on_changed", get_args(OnChanged))
        if not isinstance(self.on_lossy, Mapping):
            validation.one_of(self.on_lossy, "on_lossy", get_args(Lossy))
            return
        for column, lossy in self.on_lossy.items():
            validation.one_of(lossy, f"on_lossy[{column!r}]", get_args(Lossy))


def parse_options(options: BatchOptions) -> RowOptions:
    """Return the options that a call was given.

    Raises:
        InvalidArgumentError: there is no such option, or one is not one of its choices.
    """
    check_names(options, EnqueueOptions)
    return RowOptions(**options)


def check_names(options: Mapping[str, Any], known: type) -> None:
    """Raise InvalidArgumentError if one of them is not among the known options."""
    names = sorted(known.__annotations__)
    for name in sorted(options.keys() - set(names)):
        close = get_close_matches(name, names, 1)
        advice = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"
        raise InvalidArgumentError(f"there is no option {name!r}; {advice}")


def parse_limit_by(option: LimitByOption | None) -> tuple[str, int]:
    """Return the column of limit keys and how many jobs of each may run at once, or ("", 0)."""
    if option is None:
        return "", 0
    if isinstance(option, str) or len(option) != 2 or not isinstance(option[0], str):
        raise InvalidArgumentError(
            f"limit_by must be a column and how many jobs of each of its values may run at once, "
            f'such as ("customer", 2), got {option!r}.'
        )
    column, most = option
    if isinstance(most, str) and most.isdecimal():
        # As a template says it.
        most = int(most)
    return column, validation.whole(most, "limit_by", 1, PER_KEY_MAX)


def check_on_rerun(on_rerun: str) -> None:
    """Raise InvalidArgumentError, which names the choices, where it is not one of them."""
    validation.one_of(on_rerun, "on_rerun", get_args(OnRerun))


def generation_for(on_rerun: OnRerun, existing: BatchStats | None) -> int:
    """Return the generation that the rows belong to; `existing` is the batch that is there.

    "fresh" begins a new one only where the one before is sealed: a fresh call that was cut short
    is finished by the next one, so that its rows are not done twice.
    """
    if existing is None:
        return 0
    if on_rerun == "fresh" and existing.sealed:
        return existing.generation + 1
    return existing.generation


def shows_options(options: type) -> Callable[[_Function], _Function]:
    """Return a decorator that lists the options of a function in its signature.

    Type checkers and editors read them from `**options: Unpack[...]`; a notebook's help, and
    whatever else inspects the function, sees one argument without this.
    """
    defaults: dict[str, Any] = {field.name: field.default for field in fields(RowOptions)}
    defaults |= {"on_rerun": "resume", "max_outstanding": None}

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)
        named = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        listed = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults[name],
                annotation=getattr(annotation, "__forward_arg__", annotation),
            )
            for name, annotation in options.__annotations__.items()
        ]
        vars(function)["__signature__"] = signature.replace(parameters=[*named, *listed])
        return function

    return decorate
