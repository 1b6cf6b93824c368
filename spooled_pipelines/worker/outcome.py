"""What a handler's return or exception means for its job."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spooled_pipelines.wire.limits import ERROR_MAX

# Of an error's text this much may be the message; the end of the traceback gets the rest.
_MESSAGE_MAX = 1_024


class Discard(Exception):  # noqa: N818 - raised as a decision, like StopIteration, not as a fault
    """Raise it in a handler to give the job up for good: no retry, straight to the dead letters.

    raise Discard("the order was cancelled meanwhile")
    """


@dataclass(frozen=True)
class Completed:
    """The handler returned; `result` is its mapping, or None."""

    result: dict[str, Any] | None = field(repr=False)


@dataclass(frozen=True)
class Failed:
    """The handler raised, or returned what cannot be a result."""

    error: str = field(repr=False)
    retry: bool
    # Until it is tried again; None: the server's own pause.
    delay_seconds: int | None = field(default=None, kw_only=True)
    # For the log, where the text of an error might hold data: its type, and where it came from.
    kind: str = ""
    place: str = ""
    # The handler's decision, not its fault.
    discarded: bool = False
    exception: BaseException | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Returned:
    """The job is given up unfinished: the server gets it back, to hand it to another."""


Outcome = Completed | Failed | Returned


def outcome_of_return(value: object) -> Outcome:
    """A mapping is the result, None is none; anything else is a fault that a retry cannot cure."""
    if value is None:
        return Completed(None)
    if isinstance(value, Mapping):
        return Completed(dict(value))
    kind = type(value).__name__
    return refused(
        f"TypeError: the handler returned a {kind}; it should return a mapping (the result) or None"
    )


def refused(reason: str) -> Failed:
    """A result that cannot be kept: the job fails once, since running it again gives the same."""
    return Failed(cut(reason), retry=False, kind="result refused")


def outcome_of_exception(error: BaseException) -> Failed:
    """The failure that an exception out of a handler stands for."""
    kind = type(error).__name__
    place = _place(error)
    if isinstance(error, Discard):
        reason = _clean(str(error)) or "discarded by the handler"
        return Failed(cut(reason), False, kind, place, discarded=True, exception=error)
    return Failed(error_text(error), True, kind, place, exception=error)


def error_text(error: BaseException) -> str:
    """`Type: message`, then as much of the end of the traceback as the limit of 2048 leaves."""
    kind = type(error).__name__
    try:
        message = _clean(str(error))
    except Exception:  # noqa: BLE001 - somebody's __str__ may raise anything, the job must still fail
        message = "(its text cannot be read)"
    head = f"{kind}: {message}" if message else kind
    frames = _clean("".join(traceback.format_tb(_own_frames(error)))).rstrip()
    if not frames:
        return cut(head)
    head = cut(head, _MESSAGE_MAX)
    room = ERROR_MAX - len(head) - 1
    if len(frames) > room:
        frames = "…" + frames[len(frames) - room + 1 :]
    return f"{head}\n{frames}"


def cut(text: str, limit: int = ERROR_MAX) -> str:
    """At most `limit` characters, and never none at all, as the wire asks."""
    text = _clean(text) or "failed without a message"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _clean(text: str) -> str:
    # A lone surrogate cannot be a protobuf string.
    return text.encode("utf-8", "replace").decode("utf-8").strip()


def _own_frames(error: BaseException) -> Any:
    # The first frame is the worker's own call of the handler, which tells its author nothing.
    return error.__traceback__.tb_next if error.__traceback__ else None


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(_own_frames(error))
    return f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
