"""`plan FILE QUEUE`: what `enqueue` would do with the same arguments."""

from __future__ import annotations

import inspect
from typing import Any

from spooled_pipelines.cli.commands.enqueue import enqueue
from spooled_pipelines.cli.options import set_parameters

# Options of `enqueue` that have no meaning if nothing is written.
_FOR_WRITING = ("plan", "ledger", "max_outstanding")


def plan(**options: Any) -> None:
    """Show what `enqueue` would do with the same arguments, and write nothing."""
    enqueue(**options, plan=True)


_options = inspect.signature(enqueue).parameters.values()
set_parameters(plan, [option for option in _options if option.name not in _FOR_WRITING])
