"""The server's log: lines for people, or JSON for programs. No keys, no payloads."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
import threading
from types import TracebackType

from spooled_pipelines.server.core.runtime.operator_log import operator_log
from spooled_pipelines.server.telemetry.rpc_call import request_id

_log = logging.getLogger(__name__)
FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        line = super().formatMessage(record)
        known = request_id.get()
        return line if known is None else f"{line} (request {known})"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.timezone.utc).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (known := request_id.get()) is not None:
            entry["request_id"] = known
        entry.update(getattr(record, "about", {}))
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _log_thread_failure(failure: threading.ExceptHookArgs) -> None:
    name = failure.thread.name if failure.thread else "of the server"
    error = failure.exc_value
    _log.error("the thread %s failed", name, exc_info=error or failure.exc_type is not None)


def _log_failure(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    _log.critical("the program failed", exc_info=error)


def configure_logging(log_format: str = "text", level: str = "warning") -> None:
    """Log to stderr; ValueError where there is no such format or level."""
    if log_format not in FORMATS:
        raise ValueError(f"log format {log_format!r} is not one of {', '.join(FORMATS)}")
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is not one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    if log_format == "json":
        # What else would be printed as text: warnings of libraries, and what a thread fails with.
        logging.captureWarnings(capture=True)
        threading.excepthook = _log_thread_failure
        sys.excepthook = _log_failure
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    operator_log.setLevel(min(logging.INFO, logging.getLogger().level) if level != "error" else 0)
