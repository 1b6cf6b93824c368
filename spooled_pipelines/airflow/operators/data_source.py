"""What the operator is given to enqueue, kept out of Airflow's sight until it is needed.

Airflow renders template fields before a task runs (again when a deferred one resumes), stores
what came out, and shows it in its UI. For a table that would mean: text in its cells is executed
as Jinja, an XCom is decoded once too often, and the first rows are there for all to read. So
everything but a path is wrapped in Held, which renders to itself and shows only what it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from airflow.sdk import Asset, ObjectStoragePath, XComArg
from airflow.sdk.bases.decorator import determine_kwargs
from airflow.sdk.execution_time.lazy_sequence import LazyXComSequence

from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context


class Held:
    """A value that Airflow neither renders nor stores; as text it says only what it is."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return describe(self.value)


def hold(data: Any) -> Any:
    """Wrap ``data``, unless it is a path or URI (templated, and fine to show) or held already."""
    if isinstance(data, (str, ObjectStoragePath, Held)):
        return data
    if isinstance(data, Asset):
        return data.uri
    if isinstance(data, os.PathLike):
        return os.fspath(data)
    return Held(data)


def hold_function(value: Any) -> Any:
    """Wrap a function: Airflow would call one that it finds in a template field."""
    return Held(value) if _is_function(value) else value


def open_data(
    data: Any, op_kwargs: Mapping[str, Any] | None, operator: BaseOperator, context: Context
) -> Any:
    """The table (or the path of one) that ``data`` stands for: pulled from XCom, or made.

    A callable is called with those of ``op_kwargs`` (rendered here) and of the context that its
    signature names.

    Raises:
        InvalidArgumentError: nothing came out of it.
    """
    value = data.value if isinstance(data, Held) else data
    told = describe(value)
    if isinstance(value, XComArg):
        value = value.resolve(context)
    elif _is_function(value):
        arguments = operator.render_template(dict(op_kwargs or {}), context)
        value = value(**determine_kwargs(value, (), {**context, **arguments}))
    if isinstance(value, Asset):
        value = value.uri
    if value is None:
        raise InvalidArgumentError(
            f"data={told} gave None instead of a table. Return a table from it, or if it is "
            "another task's output, see whether that task ran and pushed one."
        )
    if isinstance(value, (str, os.PathLike, ObjectStoragePath)):
        return _path(value)
    return _rows_of_tables(value)


def _rows_of_tables(value: Any) -> Any:
    """What yields tables, or holds several, as the rows of one; anything else as it is."""
    if not isinstance(value, (Iterator, list, tuple, LazyXComSequence)):
        return value
    items = iter(value)
    first = next(items, None)
    if not _is_table(first):
        # A list may be gone through again, and tells more about its columns.
        return chain([first], items) if isinstance(value, Iterator) and first is not None else value
    return _batches(chain([first], items))


def _batches(tables: Iterable[Any]) -> Iterator[Any]:
    from spooled_pipelines.batch.source.open import open_source

    for table in tables:
        # A part of a table may well be empty, and then not even have columns.
        if not hasattr(table, "__len__") or len(table):
            yield from open_source(table).batches


def _is_table(value: Any) -> bool:
    return isinstance(value, list) or hasattr(value, "__arrow_c_stream__")


def describe(value: Any) -> str:
    """What a value is, in a few words and without any of its content."""
    if isinstance(value, XComArg):
        return str(value)
    if _is_function(value):
        name = getattr(value, "__qualname__", type(value).__qualname__)
        return f"<callable {getattr(value, '__module__', '?')}.{name}>"
    rows = f" of length {len(value)}" if hasattr(value, "__len__") else ""
    return f"<{type(value).__module__}.{type(value).__qualname__}{rows}>"


class HeldArguments(Held):
    """A callable's arguments: shown as they were written, rendered only for the call."""

    def __repr__(self) -> str:
        shown = (f"{name!r}: {_as_written(value)}" for name, value in (self.value or {}).items())
        return "{" + ", ".join(shown) + "}"


def _path(location: Any) -> Any:
    if isinstance(location, ObjectStoragePath) and location.protocol not in ("", "file"):
        # It brings its file system, with what its connection holds.
        return location
    # Airflow writes paths of this machine as URIs, too.
    text = str(location)
    parts = urlsplit(text)
    return url2pathname(parts.path) if parts.scheme == "file" else text


def _as_written(value: Any) -> str:
    if isinstance(value, (str, int, float, bool, type(None))):
        return repr(value)
    return describe(value)


def _is_function(value: Any) -> bool:
    return callable(value) and not hasattr(value, "__arrow_c_stream__")
