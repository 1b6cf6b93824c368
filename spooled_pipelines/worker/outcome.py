"""What a handler's return or exception means for its job."""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import timedelta
from typing import Any

from spooled_pipelines.wire.limits import ERROR_MAX, RETRY_DELAY_SECONDS_MAX

# Of an error's text this much may be the message; the end of the traceback gets the rest.
_MESSAGE_MAX = 1_024


class Discard(Exception):  # noqa: N818 - raised as a decision, like StopIteration, not as a fault
    """Raise it in a handler to give the job up for good: no retry, straight to the dead letters.

    raise Discard("the order was cancelled meanwhile")
    """


class Retry(Exception):  # noqa: N818 - a decision as well
    """Raise it in a handler to have the job tried again, if it has retries left.

    raise Retry("the bank is closed", after=timedelta(hours=8))

    Args:
        reason: kept with the job.
        after: seconds or a timedelta, at most 30 days; None: the server's pause, which grows with
            each try. Only a server with the batch extension knows another than its own.

    Raises:
        ValueError: `after` is below 0 or above 30 days.
    """

    def __init__(self, reason: str = "", *, after: float | timedelta | None = None) -> None:
        super().__init__(reason)
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        if seconds is not None and not 0 <= seconds <= RETRY_DELAY_SECONDS_MAX:
            raise ValueError(f"after is {seconds} s, and must be 0 to 30 days")
        self.after = None if seconds is None else math.ceil(seconds)


class PayloadMisfitError(Exception):
    """A payload is not what the handler takes; trying again does not change that."""


@dataclass(frozen=True)
class RetryRules:
    """What the exceptions of a handler decide, by the nearest of their classes that is named."""

    retry_on: tuple[type[BaseException], ...] = (BaseException,)
    discard_on: tuple[type[BaseException], ...] = ()

    @classmethod
    def of(
        cls,
        retry_on: Sequence[type[BaseException]] | type[BaseException] | None,
        discard_on: Sequence[type[BaseException]] | type[BaseException],
    ) -> RetryRules:
        """TypeError where something in them is no class of exceptions."""
        retried = (BaseException,) if retry_on is None else _classes("retry_on", retry_on)
        return cls(retried, _classes("discard_on", discard_on))

    def retries(self, error: BaseException) -> bool:
        """Whether a job that failed with this is to be tried again."""
        for kind in type(error).__mro__:
            if kind in self.discard_on:
                return False
            if kind in self.retry_on:
                return True
        return False


EVERYTHING_IS_RETRIED = RetryRules()


def _classes(
    name: str, given: Sequence[type[BaseException]] | type[BaseException]
) -> tuple[type[BaseException], ...]:
    classes = (given,) if isinstance(given, type) else tuple(given)
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError(f"{name} holds {each!r}, and should hold classes of exceptions")
    return classes


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
    """A mapping is the result, None is none; so are a dataclass, a pydantic model and an Arrow row.

    Anything else is a fault that a retry cannot cure.
    """
    if value is None:
        return Completed(None)
    if isinstance(value, dict):
        return Completed(value)
    if hasattr(value, "as_py"):
        value = value.as_py()
    if isinstance(value, Mapping):
        return Completed(dict(value))
    if is_dataclass(value) and not isinstance(value, type):
        return Completed(asdict(value))
    if hasattr(value, "model_dump"):
        return Completed(value.model_dump())
    if hasattr(value, "to_pylist"):
        rows = value.to_pylist()
        if len(rows) == 1 and isinstance(rows[0], Mapping):
            return Completed(dict(rows[0]))
    kind = type(value).__name__
    return refused(
        f"TypeError: the handler returned a {kind}; it should return a mapping, a dataclass, a "
        "pydantic model or an Arrow row (the result), or None"
    )


def refused(reason: str) -> Failed:
    """A result that cannot be kept: the job fails once, since running it again gives the same."""
    return Failed(cut(reason), retry=False, kind="result refused")


def outcome_of_exception(error: BaseException, rules: RetryRules = EVERYTHING_IS_RETRIED) -> Failed:
    """The failure that an exception out of a handler stands for."""
    kind = type(error).__name__
    place = _place(error)
    if isinstance(error, PayloadMisfitError):
        return Failed(cut(str(error)), False, kind="payload refused", exception=error)
    if isinstance(error, Discard):
        reason = _clean(str(error)) or "discarded by the handler"
        return Failed(cut(reason), False, kind, place, discarded=True, exception=error)
    if isinstance(error, Retry):
        reason = cut(_clean(str(error)) or "to be tried again")
        return Failed(reason, True, kind, place, exception=error, delay_seconds=error.after)
    return Failed(error_text(error), rules.retries(error), kind, place, exception=error)


def timed_out(seconds: int) -> Failed:
    """The handler took longer than its job allows."""
    error = f"TimeoutError: the handler did not end within the job's {seconds} s"
    return Failed(error, retry=True, kind="TimeoutError")


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
