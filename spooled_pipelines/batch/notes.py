"""A note on an error that interrupts an upload: what is sent so far, and how to resume."""

from __future__ import annotations

from spooled_pipelines.batch.ledger import Ledger
from spooled_pipelines.batch.staging.prepare import Prepared
from spooled_pipelines.errors import SpooledError


def add_resume_note(error: BaseException, prepared: Prepared, ledger: Ledger) -> None:
    """Add to `error` how many rows were acknowledged and how to resume."""
    part_id = prepared.scope.part_id
    state = f"batch {prepared.batch_id} is not sealed"
    if part_id is not None:
        state = f"part {part_id!r} of batch {prepared.batch_id} is not finished"
    text = (
        f"{ledger.acknowledged} of {prepared.sendable} rows were acknowledged; {state}, so it "
        "does not count as complete. Repeat the same call to resume; no row is enqueued twice."
    )
    if isinstance(error, SpooledError):
        error.problem = f"{error.problem.rstrip()} {text}"
        error.details.update(batch_id=prepared.batch_id, acknowledged=ledger.acknowledged)
    elif hasattr(error, "add_note"):
        error.add_note(text)
    elif not error.args:
        # Python 3.10 has no notes; what has no text of its own (KeyboardInterrupt) gets this one.
        error.args = (text,)
