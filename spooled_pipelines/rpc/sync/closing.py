# Generated from spooled_pipelines/rpc/aio/closing.py by `make generate`: do not edit.
"""Objects that close themselves at the end of a `with` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Closing(ABC):
    """A context manager that closes itself."""

    @abstractmethod
    def _close(self) -> None:
        """Close, at the end of the block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
