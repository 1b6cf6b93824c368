"""What the suite of the engines asks of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

Rows = list[dict[str, Any]]


class Engine(Protocol):
    """A running cluster of two processes, and what it calls things."""

    name: str
    # Whether the exceptions that its drivers see are our own.
    raises_ours: bool

    def frame(self, rows: Rows, partitions: int) -> Any:
        """A table in so many partitions."""

    def computed(self, rows: Rows, partitions: int, each: Callable[[int], None]) -> Any:
        """The same, with a call of `each` with each row's id while it is computed."""

    def happened(self) -> dict[str, int]:
        """What it did more than once, by what it calls that; where it says so."""

    def enqueue(self, frame: Any, queue_name: str, **arguments: Any) -> Any:
        """The engine's `enqueue`."""

    def results(self, batch: Any) -> list[Mapping[str, Any]]:
        """The engine's `results`, as plain rows."""

    def shown(self, frame: Any, queue_name: str, **arguments: Any) -> str:
        """Everything that the engine writes down, or sends with its tasks, of an `enqueue`."""
