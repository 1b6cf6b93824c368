"""Values that Airflow neither renders, stores nor shows.

Airflow renders template fields before a task runs (again when a deferred one resumes), stores
the result, and shows it in its UI. For a table that would mean: text in its cells is executed
as Jinja, an XCom is decoded twice, and everybody can read the first rows. So an operator wraps
everything but a path in `Opaque`, which renders to itself and shows only what it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import date
from typing import Any

from airflow.sdk import Asset, ObjectStoragePath, XComArg

_PATHS = (str, os.PathLike, ObjectStoragePath, Asset)


class Opaque:
    """A value that Airflow neither renders nor stores; as text it says only what it is."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return describe(self.value)


def wrap(data: Any) -> Any:
    """Wrap a table. A path or URI, or a list of them, is templated and shown: it stays."""
    if data is None or isinstance(data, (str, ObjectStoragePath, Opaque)):
        return data
    if isinstance(data, Asset):
        return data.uri
    if isinstance(data, os.PathLike):
        return os.fspath(data)
    if isinstance(data, (list, tuple)) and data and all(isinstance(item, _PATHS) for item in data):
        return [wrap(item) for item in data]
    return Opaque(data)


def wrap_arguments(arguments: Any) -> Any:
    """Wrap what may hold rows in the arguments of a callable; the rest is rendered and shown."""
    if not isinstance(arguments, Mapping):
        return (
            arguments if arguments is None or isinstance(arguments, Opaque) else Opaque(arguments)
        )
    return {
        name: value if isinstance(value, Opaque) or _is_plain(value) else Opaque(value)
        for name, value in arguments.items()
    }


def wrap_function(value: Any) -> Any:
    """Wrap a function: Airflow would call one that it finds in a template field."""
    return Opaque(value) if is_function(value) else value


def unwrap(value: Any) -> Any:
    """Return what was wrapped, or the value itself."""
    return value.value if isinstance(value, Opaque) else value


def is_function(value: Any) -> bool:
    """Whether the value is to be called, and not a table that happens to be callable."""
    return callable(value) and not hasattr(value, "__arrow_c_stream__")


def describe(value: Any) -> str:
    """Return what a value is, in a few words and without any of its content."""
    if isinstance(value, XComArg):
        return str(value)
    if is_function(value):
        name = getattr(value, "__qualname__", type(value).__qualname__)
        return f"<callable {getattr(value, '__module__', '?')}.{name}>"
    rows = f" of length {len(value)}" if hasattr(value, "__len__") else ""
    return f"<{type(value).__module__}.{type(value).__qualname__}{rows}>"


def _is_plain(value: object) -> bool:
    """Whether it is a text or a number, or a mapping or list of these, which is not a table."""
    if isinstance(value, Mapping):
        value = list(value.values())
    items = value if isinstance(value, (list, tuple)) else [value]
    return all(item is None or isinstance(item, (str, int, float, date)) for item in items)
