"""Map gRPC's errors to those of our tree, with messages for people."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import grpc

from spooled_pipelines import errors
from spooled_pipelines.rpc import connection_diagnosis
from spooled_pipelines.rpc.settings import ConnectionSettings

# Texts of the spooled.v1 contract, the only thing that distinguishes these errors there.
LEASE_LOST_TEXTS = ("does not match the job's current lease", "lease expired")
ALREADY_SETTLED = re.compile(r"job is already (\w+)", re.IGNORECASE)
QUOTA_REACHED = re.compile(r"limit reached \(\d+/\d+\)", re.IGNORECASE)
TOO_LARGE = re.compile(r"(sent|received) message larger than max", re.IGNORECASE)
# What gRPC says of an answer that it refused here, packed or not.
_ANSWER_TOO_LARGE = re.compile(r"CLIENT: \w+ message larger than max")
RETRY_AFTER_HEADER = "retry-after"
# The id of the refused call in the server's log.
REQUEST_ID_HEADER = "x-request-id"
# Why it refused, as a word: `role`, `queue` or `organization` of a key that may not do this.
REASON_HEADER = "x-error-reason"
# What grpc.aio makes of a write to a call that has just ended, whatever it ended with.
WRITE_FAILED = ("INTERNAL", "Internal error from Core")


@dataclass(frozen=True)
class Call:
    """A call that failed: the name of its method, its server, and its deadline."""

    method: str
    settings: ConnectionSettings
    timeout: float | None = None


def error_from_grpc(raw: grpc.RpcError, call: Call) -> errors.SpooledError:
    """Return the error of our tree for one that gRPC raised (blocking or asyncio)."""
    failed: Any = raw
    code, text = failed.code().name, failed.details() or ""
    if (code, text) == WRITE_FAILED:
        # The real end of the call did not arrive in time; the next attempt will see it.
        code, text = "UNAVAILABLE", "the call ended under a write"
    return error_from_status(code, text, call, trailing=failed.trailing_metadata() or ())


def error_from_status(
    code: str,
    text: str,
    call: Call,
    *,
    trailing: Iterable[tuple[str, str | bytes]] = (),
) -> errors.SpooledError:
    """Return the error for a status name, such as ``"NOT_FOUND"``, and its text."""
    make = _BY_CODE.get(code, _server_failed)
    said = dict(trailing)
    error = make(_Status(code, text.strip(), call, said))
    error.code = code
    if REASON_HEADER in said:
        error.reason = str(said[REASON_HEADER])
    if REQUEST_ID_HEADER in said:
        error.details.setdefault("request_id", said[REQUEST_ID_HEADER])
    error.details.setdefault("method", call.method)
    error.details.setdefault("address", call.settings.name)
    error.details.setdefault("server_message", text.strip())
    return error


def refusal_in_stream(code: str, text: str, call: Call) -> errors.SpooledError:
    """Return the error for one inside a ProcessJobs stream; its code may be Spooled's own."""
    if code == "LEASE_EXPIRED":
        error = _lease_lost(_Status(code, text, call, {}))
        error.code = code
        error.details.update(method=call.method, address=call.settings.name, server_message=text)
        return error
    return error_from_status(code, text, call)


@dataclass(frozen=True)
class _Status:
    code: str
    text: str
    call: Call
    trailing: dict[str, str | bytes]

    @property
    def where(self) -> str:
        return f"{self.call.method} at {self.call.settings.name}"

    @property
    def said(self) -> str:
        """The server's own words, as part of a sentence."""
        return self.text.rstrip(".") or self.code


def _invalid(status: _Status) -> errors.SpooledError:
    return errors.InvalidArgumentError(f"{status.where}: {status.said}")


def _unauthenticated(status: _Status) -> errors.SpooledError:
    source = status.call.settings.api_key_source
    return errors.AuthenticationError(
        f"{status.where}: the server does not accept the API key from {source} ({status.said}). "
        "Check that the key is complete, has not been revoked, and belongs to this server.",
        details={"api_key_source": source},
    )


def _denied(status: _Status) -> errors.SpooledError:
    source = status.call.settings.api_key_source
    return errors.PermissionDeniedError(
        f"{status.where}: the API key from {source} may not do this ({status.said}). "
        "Use a key whose role allows it and that is not limited to other queues "
        "(`spooled-pipelines doctor` shows what this one may do).",
        details={"api_key_source": source},
    )


def _not_found(status: _Status) -> errors.SpooledError:
    return errors.NotFoundError(
        f"{status.where}: {status.said}. Check that the id is complete and belongs to this server "
        "and to the key's organization; old jobs may have been removed."
    )


def _conflict(status: _Status) -> errors.SpooledError:
    lowered = status.text.lower()
    if any(text in lowered for text in LEASE_LOST_TEXTS):
        return _lease_lost(status)
    settled = ALREADY_SETTLED.search(status.text)
    details = {"job_status": settled.group(1).lower()} if settled else None
    return errors.ConflictError(
        f"{status.where}: {status.said}. Nothing was changed.", details=details
    )


def _lease_lost(status: _Status) -> errors.LeaseLostError:
    return errors.LeaseLostError(
        f"{status.where}: {status.said}. This worker no longer has the job: drop the result, the "
        "job runs again (renew leases sooner, or ask for longer ones)."
    )


def _exhausted(status: _Status) -> errors.SpooledError:
    if _ANSWER_TOO_LARGE.search(status.text):
        return errors.ServerError(
            f"{status.where}: the server's answer is larger than any answer may be ({status.said})"
        )
    if TOO_LARGE.search(status.text):
        return errors.InvalidArgumentError(
            f"{status.where}: a message is too large ({status.said}): send or request less at once"
        )
    wait = _retry_after(status.trailing)
    if wait is not None:
        return errors.RateLimitError(
            f"{status.where}: too many calls ({status.said}); the server asks to wait {wait:g} s. "
            "Make fewer calls a second, or use a larger plan.",
            retry_after=wait,
            details={"retry_after": wait},
        )
    if QUOTA_REACHED.search(status.text):
        return errors.QuotaExceededError(
            f"{status.where}: a limit of the plan is reached ({status.said}). Waiting some seconds "
            "does not help: use a larger plan, or continue when the period ends."
        )
    return errors.QuotaExceededError(
        f"{status.where}: the server has no capacity for this ({status.said}), and does not say "
        "when to try again."
    )


def _retry_after(trailing: dict[str, str | bytes]) -> float | None:
    value = trailing.get(RETRY_AFTER_HEADER)
    if value is None:
        return None
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    try:
        seconds = float(text)
    except ValueError:
        # It is a rate limit all the same; the smallest plans refill within a second.
        return 1.0
    return seconds if 0 <= seconds < float("inf") else 1.0


def _unavailable(status: _Status) -> errors.SpooledError:
    if REQUEST_ID_HEADER in status.trailing:
        # The server answered, and these are its own words: a full disk, a database that is away.
        return errors.UnavailableError(
            f"{status.where}: the server cannot do it now: {status.said}.",
            reason="refused",
        )
    diagnosis = connection_diagnosis.diagnose(status.text, status.call.settings)
    details: dict[str, object] = {}
    if not diagnosis.sent:
        details["sent"] = False
    if diagnosis.permanent:
        details["permanent"] = True
    problem = f"{status.call.method}: {diagnosis.problem}"
    return errors.UnavailableError(
        problem, hint=diagnosis.hint, reason=diagnosis.reason, details=details
    )


def _cancelled(status: _Status) -> errors.SpooledError:
    return errors.UnavailableError(
        f"{status.where}: the call was cancelled ({status.said}): the channel was closed, or "
        "something between here and the server ended the call.",
        reason="cancelled",
    )


def _deadline(status: _Status) -> errors.SpooledError:
    given = status.call.timeout
    within = f" within {given:.3g} s" if given is not None else " in time"
    return errors.DeadlineExceededError(
        f"{status.where}: no response{within}. Whether the server did the work is unknown. Allow "
        "more time (timeout_seconds), or check that the address is that of a Spooled server."
    )


def _unimplemented(status: _Status) -> errors.SpooledError:
    return errors.ServerError(
        f"{status.where}: the server does not know this call ({status.said}). It may be older, "
        "have no batch extension, or not be a Spooled server."
    )


def _server_failed(status: _Status) -> errors.SpooledError:
    return errors.ServerError(
        f"{status.where}: the server failed ({status.code}: {status.said}). See its log."
    )


_BY_CODE: dict[str, Callable[[_Status], errors.SpooledError]] = {
    "INVALID_ARGUMENT": _invalid,
    "OUT_OF_RANGE": _invalid,
    "UNAUTHENTICATED": _unauthenticated,
    "PERMISSION_DENIED": _denied,
    "NOT_FOUND": _not_found,
    "ALREADY_EXISTS": _conflict,
    "FAILED_PRECONDITION": _conflict,
    "ABORTED": _conflict,
    "RESOURCE_EXHAUSTED": _exhausted,
    "UNAVAILABLE": _unavailable,
    "CANCELLED": _cancelled,
    "DEADLINE_EXCEEDED": _deadline,
    "UNIMPLEMENTED": _unimplemented,
    "UNKNOWN": _server_failed,
    "INTERNAL": _server_failed,
    "DATA_LOSS": _server_failed,
}
