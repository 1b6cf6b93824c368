"""The worker's log lines: job, attempt and queue in each; never a payload, result or message."""

from __future__ import annotations

import logging

from spooled_pipelines.worker.held import HeldJob

logger = logging.getLogger("spooled_pipelines.worker")


def log_job(level: int, event: str, held: HeldJob, **facts: object) -> None:
    """One line about one job, its facts in the text and as attributes of the record."""
    if not logger.isEnabledFor(level):
        return
    fields: dict[str, object] = {
        "job_id": held.job.id,
        "attempt": held.attempt,
        "queue": held.job.queue_name,
        **{name: value for name, value in facts.items() if value not in ("", None)},
    }
    text = " ".join(f"{name}={value}" for name, value in fields.items())
    logger.log(level, "%s %s", event, text, extra=fields)
