"""What an upload that was broken off leaves behind, said with the error that broke it off."""

from __future__ import annotations

from spooled_pipelines.batch.ledger import Ledger
from spooled_pipelines.batch.staging.prepare import Prepared
from spooled_pipelines.errors import SpooledError


def add_resume_note(error: BaseException, prepared: Prepared, ledger: Ledger) -> None:
    """Say on `error` how many rows were acknowledged and how to go on."""
    part_id = prepared.scope.part_id
    state = f"batch {prepared.batch_id} is not sealed"
    if part_id is not None:
        state = f"part {part_id!r} of batch {prepared.batch_id} is not finished"
    text = (
        f"{ledger.acknowledged} of {prepared.sendable} rows were acknowledged; {state}, so nobody "
        "takes it for complete. The same call again goes on from there and makes no row twice."
    )
    if isinstance(error, SpooledError):
        error.message = f"{error.message.rstrip()} {text}"
        error.args = (error.message,)
        error.details.update(batch_id=prepared.batch_id, acknowledged=ledger.acknowledged)
    elif hasattr(error, "add_note"):
        error.add_note(text)
    elif not error.args:
        # Python 3.10 has no notes; what has no text of its own (KeyboardInterrupt) gets this one.
        error.args = (text,)
