"""`plan FILE QUEUE`: what `enqueue` would do with the same arguments."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

from spooled_pipelines.cli.commands.enqueue import enqueue
from spooled_pipelines.cli.output import print_json, print_pairs

if TYPE_CHECKING:
    from spooled_pipelines.batch.plan import BatchPlan

_SAMPLE_CHARACTERS = 200
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


def print_plan(plan: BatchPlan, as_json: bool) -> None:
    """Print what `enqueue` would do."""
    if as_json:
        print_json(plan.to_dict())
        return
    print_pairs(
        {
            "batch": plan.batch_id,
            "queue": plan.queue_name,
            "rows": plan.rows,
            "to create": plan.created,
            "duplicates": "unknown (the server cannot be asked)"
            if plan.duplicates is None
            else plan.duplicates,
            **({"changed": plan.changed} if plan.changed else {}),
            "rejected": plan.rejected,
            "bytes": plan.bytes,
            "chunks": plan.chunks,
        }
    )
    for note in plan.notes:
        print(note)
    for reason, count in plan.reasons.items():
        print(f"rejected: {count} × {reason}")
    for sample in plan.samples:
        payload = json.dumps(sample, ensure_ascii=False, sort_keys=True)
        print(f"payload: {payload[:_SAMPLE_CHARACTERS]}")
    print("nothing was written")
