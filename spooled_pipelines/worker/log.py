"""The worker's log lines: job, attempt and queue in each; never a payload, result or error text."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import Counter
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from spooled_pipelines.worker.jobs.lease_table import LeasedJob

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    # Python 3.10 cannot say of what it is.
    _Adapter = logging.LoggerAdapter


class WorkerLogger(_Adapter):
    """A logger whose filters and handlers end no worker, whatever they raise.

    They are those of the program that the handlers are of.
    """

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 2
        with contextlib.suppress(Exception):
            self.logger.log(level, msg, *args, **kwargs)


logger = WorkerLogger(logging.getLogger("spooled_pipelines.worker"), {})
# Of failures of one kind so many have a line each in so many seconds.
_LINES, _SECONDS = 20, 10.0


def log_job(level: int, event: str, leased: LeasedJob, **facts: object) -> None:
    """Log one line about one job, its facts in the text and as attributes of the record."""
    about = {"job_id": leased.job_id, "attempt": leased.attempt, "queue": leased.queue_name}
    _log(level, event, {**about, **facts})


def _log(level: int, event: str, facts: dict[str, object]) -> None:
    if not logger.isEnabledFor(level):
        return
    fields = {name: value for name, value in facts.items() if value not in ("", None)}
    text = " ".join(f"{name}={value}" for name, value in fields.items())
    logger.log(level, "%s %s", event, text, extra={**fields, "event": event, "facts": fields})


class FailureLog:
    """Logs failed jobs one by one while there are few of a kind, and how many others there were.

    A failure of a kind with many has its own line at the level DEBUG.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[int, str, str, str, str, str]] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def add(
        self, level: int, event: str, leased: LeasedJob, *, status: str, error: str, at: str
    ) -> None:
        """Log a failed job, in the thread of the worker's event loop."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SECONDS, self.flush)
        kind = (level, event, leased.queue_name, status, error, at)
        self._counts[kind] += 1
        one_by_one = self._counts[kind] <= _LINES
        log_job(
            level if one_by_one else logging.DEBUG, event, leased, status=status, error=error, at=at
        )

    def flush(self) -> None:
        """Log how many failures had no line."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for (level, event, queue, status, error, at), count in self._counts.items():
            if count > _LINES:
                facts: dict[str, object] = {"jobs": count - _LINES, "queue": queue}
                _log(
                    level,
                    f"{event}, as before:",
                    {**facts, "status": status, "error": error, "at": at},
                )
        self._counts.clear()


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
