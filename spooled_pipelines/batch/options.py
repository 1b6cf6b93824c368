"""What the same call again means for what is there (`on_rerun`)."""

from __future__ import annotations

from typing import Literal, TypeAlias

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.types import BatchStats

OnRerun: TypeAlias = Literal["resume", "retry_failed", "fresh"]

_CHOICES = ("resume", "retry_failed", "fresh")


def check_on_rerun(on_rerun: str) -> None:
    """InvalidArgumentError names the choices."""
    if on_rerun not in _CHOICES:
        choices = ", ".join(repr(choice) for choice in _CHOICES)
        raise InvalidArgumentError(f"on_rerun is one of {choices}, not {on_rerun!r}.")


def generation_for(on_rerun: OnRerun, found: BatchStats | None) -> int:
    """Which generation of the batch the rows are of; `found` is None where there is no batch.

    "fresh" begins a new one only where the one before is sealed: a fresh call that was cut short
    is finished by the next one, so that its rows are not done twice.
    """
    if found is None:
        return 0
    if on_rerun == "fresh" and found.sealed:
        return found.generation + 1
    return found.generation
