"""Objects that close themselves at the end of a `with` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class AsyncClosing(ABC):
    """A context manager that closes itself."""

    @abstractmethod
    async def _close(self) -> None:
        """Close, at the end of the block."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()
