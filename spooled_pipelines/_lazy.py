"""Names that a package loads when they are first used, so that importing it costs nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any


@contextlib.contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Have an import that fails here name the extra that brings what is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("spooled_pipelines"):
            raise
        raise ModuleNotFoundError(
            f"{error.name} is not installed; pip install 'spooled-pipelines[{extra}]'",
            name=error.name,
        ) from error


def attach(
    package: str, modules: Mapping[str, str], extra: str = ""
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package.

    Args:
        package: its name.
        modules: the public names that each module of `spooled_pipelines` defines; a module that is
            public itself is among its own.
        extra: the extra that brings what these modules need beyond the core.
    """
    homes = {name: module for module, names in modules.items() for name in names.split()}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with needs_extra(extra) if extra else contextlib.nullcontext():
            module = import_module(f"spooled_pipelines.{homes[name]}")
        value = module if homes[name] == name else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    return load, lambda: sorted(homes)
