"""What is noted about each call: who, what, how long, how it ended. Never what was said."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field

from spooled_pipelines.wire.methods import Method

_log = logging.getLogger(__name__)
_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,64}")
REQUEST_ID_HEADER = "x-request-id"
_HEADERS = frozenset({REQUEST_ID_HEADER, "traceparent", "tracestate"})
# Of the call that the current task answers.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


@dataclass
class Call:
    """A call while it runs, and what became of it."""

    method: Method
    request_id: str
    traceparent: str | None = None
    tracestate: str | None = None
    organization: str | None = None
    code: str = "OK"
    seconds: float = 0.0
    _began: float = field(default_factory=time.perf_counter)

    def end(self) -> None:
        """It is over now."""
        self.seconds = time.perf_counter() - self._began


Observer = Callable[[Call], None]


def begin(method: Method, metadata: Iterable[tuple[str, str | bytes]]) -> Call:
    """A new call; its id is the client's, if it gave a sensible one, or else a fresh one."""
    said = {name: value for name, value in metadata if name in _HEADERS and type(value) is str}
    given = said.get(REQUEST_ID_HEADER)
    known = (
        given if given is not None and _ID.fullmatch(given) else f"{random.getrandbits(64):016x}"
    )
    call = Call(method, known, said.get("traceparent"), said.get("tracestate"))
    request_id.set(call.request_id)
    return call


def log_call(call: Call) -> None:
    """A line for each call, for those who asked for level INFO."""
    if not _log.isEnabledFor(logging.INFO):
        return
    about = {
        "method": call.method.path,
        "code": call.code,
        "seconds": round(call.seconds, 6),
        "organization": call.organization,
    }
    _log.info("%s %s in %.6f s", call.method.path, call.code, call.seconds, extra={"about": about})
