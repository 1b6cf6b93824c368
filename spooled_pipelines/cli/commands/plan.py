"""`plan FILE QUEUE`: what `enqueue` would do with the same arguments."""

from __future__ import annotations

import inspect
from typing import Any

from spooled_pipelines.cli.commands.enqueue import enqueue

# Options of `enqueue` that have no meaning if nothing is written.
_FOR_WRITING = ("plan", "ledger", "max_outstanding")


def plan(**options: Any) -> None:
    """Show what `enqueue` would do with the same arguments, and write nothing."""
    enqueue(**options, plan=True)


def _take_over_options() -> None:
    """Give `plan` the signature of `enqueue`, without the options for writing."""
    signature = inspect.signature(enqueue, eval_str=True)
    kept = [option for option in signature.parameters.values() if option.name not in _FOR_WRITING]
    plan.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    plan.__annotations__ = {option.name: option.annotation for option in kept} | {"return": None}


_take_over_options()
