"""The worker's log lines: job, attempt and queue in each; never a payload, result or error text."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone

from spooled_pipelines.worker.jobs.lease_table import LeasedJob

logger = logging.getLogger("spooled_pipelines.worker")


def log_job(level: int, event: str, leased: LeasedJob, **facts: object) -> None:
    """Log one line about one job, its facts in the text and as attributes of the record."""
    if not logger.isEnabledFor(level):
        return
    fields: dict[str, object] = {
        "job_id": leased.job_id,
        "attempt": leased.attempt,
        "queue": leased.queue_name,
        **{name: value for name, value in facts.items() if value not in ("", None)},
    }
    text = " ".join(f"{name}={value}" for name, value in fields.items())
    logger.log(level, "%s %s", event, text, extra={**fields, "event": event, "facts": fields})


class JsonFormatter(logging.Formatter):
    """Formats each record as a line of JSON, the facts about a job as fields of their own."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": getattr(record, "event", None) or record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)
