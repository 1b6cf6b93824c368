"""A record of each call: who, what, how long and how it ended, but not what was sent."""

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
class RpcCall:
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
        """Note that it is over now."""
        self.seconds = time.perf_counter() - self._began


Observer = Callable[[RpcCall], None]


def start(method: Method, metadata: Iterable[tuple[str, str | bytes]]) -> RpcCall:
    """Return a new call; its id is the client's, where that is a sensible one, or a fresh one."""
    headers = {name: value for name, value in metadata if name in _HEADERS and type(value) is str}
    given = headers.get(REQUEST_ID_HEADER, "")
    call_id = given if _ID.fullmatch(given) else f"{random.getrandbits(64):016x}"
    call = RpcCall(method, call_id, headers.get("traceparent"), headers.get("tracestate"))
    request_id.set(call.request_id)
    return call


def log_call(call: RpcCall) -> None:
    """Log a line for each call, at level INFO."""
    if not _log.isEnabledFor(logging.INFO):
        return
    about = {
        "method": call.method.path,
        "code": call.code,
        "seconds": round(call.seconds, 6),
        "organization": call.organization,
    }
    _log.info("%s %s in %.6f s", call.method.path, call.code, call.seconds, extra={"about": about})
