"""What a handler's return value or exception means for its job."""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import timedelta
from pathlib import Path
from types import CoroutineType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, cast

from spooled_pipelines.errors import InvalidArgumentError, LossyValueError
from spooled_pipelines.rpc.struct import from_struct, to_struct
from spooled_pipelines.text import shorten
from spooled_pipelines.wire.limits import ERROR_MAX, HOLD_SECONDS_MAX, RETRY_DELAY_SECONDS_MAX
from spooled_pipelines.wire.well_known import Struct

if TYPE_CHECKING:
    import pyarrow as pa

# So much of an error's text may be the message; the end of the traceback gets the rest.
_MESSAGE_MAX = 1_024
_WORKER_FOLDER = Path(__file__).parents[1]


class Discard(Exception):  # noqa: N818 - raised as a decision, like StopIteration, not as a fault
    """Raised by a handler to give the job up for good: no retry, straight to the dead letters.

    raise Discard("the order was cancelled meanwhile")
    """


class Retry(Exception):  # noqa: N818 - a decision as well
    """Raised by a handler to have the job tried again, if it has retries left.

    raise Retry("the bank is closed", after=timedelta(hours=8))

    Args:
        reason: kept with the job.
        after: seconds or a timedelta, at most 30 days; None: the server's delay, which grows with
            each attempt. A server without the batch extension always uses its own.

    Raises:
        ValueError: `after` is below 0 or above 30 days.
    """

    def __init__(self, reason: str = "", *, after: float | timedelta | None = None) -> None:
        super().__init__(reason)
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        if seconds is not None and not 0 <= seconds <= RETRY_DELAY_SECONDS_MAX:
            raise ValueError(f"after must be 0 seconds to 30 days, got {seconds} s")
        self.after = None if seconds is None else math.ceil(seconds)


class Snooze(Exception):  # noqa: N818 - a decision as well
    """Raised by a handler to have this job run again later; it keeps all its retries.

    raise Snooze(after=timedelta(hours=8))

    Args:
        reason: for people who read the handler.
        after: seconds or a timedelta, at most 30 days.

    Raises:
        ValueError: `after` is below 0 or above its limit.
    """

    longest_seconds: ClassVar[int] = RETRY_DELAY_SECONDS_MAX

    def __init__(self, reason: str = "", *, after: float | timedelta) -> None:
        super().__init__(reason)
        self.after: float | None = None if after is None else _checked(after, self.longest_seconds)


class Throttled(Snooze):
    """Raised by a handler whose job was answered that calls come too fast, such as with a 429.

    raise Throttled(after=float(response.headers.get("retry-after", 0)))

    The job keeps its retries and its place. The queue slows down, for all workers and servers, and
    recovers step by step while no handler raises this.

    Args:
        reason: for people who read the handler.
        after: nothing of the queue goes out for so long: seconds or a timedelta, at most a day.

    Raises:
        ValueError: `after` is below 0 or above its limit.
    """

    longest_seconds = HOLD_SECONDS_MAX

    def __init__(self, reason: str = "", *, after: float | timedelta = 0) -> None:
        super().__init__(reason, after=after)


def _checked(after: float | timedelta, longest_seconds: int) -> float:
    seconds = after.total_seconds() if isinstance(after, timedelta) else after
    if not 0 <= seconds <= longest_seconds:
        days = longest_seconds // 86_400
        raise ValueError(f"after must be 0 seconds to {days} days, got {seconds} s")
    return float(seconds)


class PayloadMismatchError(Exception):
    """A payload is not what the handler takes; trying again would not change that."""


@dataclass(frozen=True)
class RetryRules:
    """Which exceptions retry or discard a job; the nearest class that is named counts."""

    retry_on: tuple[type[BaseException], ...] = (BaseException,)
    discard_on: tuple[type[BaseException], ...] = ()

    @classmethod
    def of(
        cls,
        retry_on: Sequence[type[BaseException]] | type[BaseException] | None,
        discard_on: Sequence[type[BaseException]] | type[BaseException],
    ) -> RetryRules:
        """Return the rules; None for `retry_on` retries everything that is not discarded.

        Raises:
            TypeError: something in them is not a class of exceptions.
        """
        retried = (BaseException,) if retry_on is None else _classes("retry_on", retry_on)
        return cls(retried, _classes("discard_on", discard_on))

    def retries(self, error: BaseException) -> bool:
        """Return whether a job that failed with this error is tried again."""
        for kind in type(error).__mro__:
            if kind in self.discard_on:
                return False
            if kind in self.retry_on:
                return True
        return False


RETRY_ALL = RetryRules()


def _classes(
    name: str, given: Sequence[type[BaseException]] | type[BaseException]
) -> tuple[type[BaseException], ...]:
    classes = (given,) if isinstance(given, type) else tuple(given)
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError(f"{name} must hold classes of exceptions, got {each!r}")
    return classes


@dataclass(frozen=True)
class Completed:
    """The handler returned.

    Attributes:
        encoded: the result as the bytes of a Struct, as it was at that moment; None: no result.
        types: its Arrow schema as an IPC message, where it came as Arrow and its batch keeps that.
    """

    encoded: bytes | None = field(repr=False)
    types: bytes | None = field(default=None, repr=False)

    @property
    def result(self) -> dict[str, Any] | None:
        """The result as a mapping, or None."""
        return None if self.encoded is None else from_struct(Struct.FromString(self.encoded))


@dataclass(frozen=True)
class Failed:
    """The handler raised, or returned what cannot be a result.

    Attributes:
        error: the text that is kept with the job.
        retry: whether the job is tried again, if it has retries left.
        delay_seconds: until then; None: the server's own delay.
        error_type, location: for the log, since the text of an error might hold data.
        discarded: the handler decided so; it is not a fault.
        exit_code: of the process that died instead of answering, as Python has it.
        others: how many other jobs that process ran, any of which may have killed it.
        exception: what the handler raised.
    """

    error: str = field(repr=False)
    retry: bool
    delay_seconds: int | None = field(default=None, kw_only=True)
    error_type: str = ""
    location: str = ""
    discarded: bool = False
    exit_code: int | None = None
    others: int = 0
    exception: BaseException | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Returned:
    """The job goes back to the server unfinished, for another worker.

    Attributes:
        after_ms: it is to run again after so long; None: as soon as anybody takes it.
        throttles: the queue slows down, and it is the queue that waits so long.
    """

    after_ms: int | None = None
    throttles: bool = False


Outcome = Completed | Failed | Returned


def outcome_of_return(
    value: object, rules: RetryRules = RETRY_ALL, *, keeps_types: bool = False
) -> Outcome:
    """Return the outcome that a handler's return value stands for; raise nothing.

    A mapping is the result, and so are a dataclass, a pydantic model and an Arrow row; None is no
    result. Anything else fails the job for good, since a retry would not cure it. What the value's
    own code raises while it is read counts as raised by the handler.

    To be called where the handler returned, and before anything else runs there: a handler may use
    a dict again for its next job. `keeps_types`: the batch keeps the types of Arrow's results.
    """
    if value is None:
        return Completed(None)
    try:
        if keeps_types and type(value).__module__.startswith("pyarrow."):
            row = _arrow_row(value)
            if row is not None:
                return outcomes_of_columns(row, keeps_types=True)[0]
        fields = _fields(value)
        if fields is not None:
            return Completed(to_struct(fields, what="result").SerializeToString())
        return rejected_result(
            "TypeError: the handler must return a mapping, a dataclass, a pydantic model or an "
            f"Arrow row (the result), or None; it returned {type(value).__name__}"
        )
    except (InvalidArgumentError, LossyValueError) as error:
        return rejected_result(f"the result cannot be kept: {error}")
    except BaseException as error:  # noqa: BLE001 - a value's methods are somebody's code, and a SystemExit there is this job's failure too
        return outcome_of_exception(error, rules)


def outcome_of_row(
    value: object, rules: RetryRules = RETRY_ALL, *, keeps_types: bool = False
) -> Outcome:
    """Return the outcome that a batch handler gave for one row: a result, or an exception."""
    if issubclass(type(value), BaseException):
        return outcome_of_exception(cast("BaseException", value), rules)
    return outcome_of_return(value, rules, keeps_types=keeps_types)


def outcomes_of_columns(results: pa.RecordBatch, *, keeps_types: bool = False) -> list[Outcome]:
    """Return the outcome of each row."""
    from spooled_pipelines.batch.encoding.results import encode_results, result_types

    types = result_types(results.schema) if keeps_types else None
    encoded = encode_results(results, is_typed=types is not None)
    return [
        Completed(each, types)
        if isinstance(each, bytes)
        else rejected_result(f"the result cannot be kept: {each}")
        for each in encoded
    ]


def columns_of(value: object) -> pa.RecordBatch | None:
    """Return a record batch or table with columns as a record batch; None for the rest."""
    import pyarrow as pa

    if not isinstance(value, pa.RecordBatch | pa.Table):
        return None
    if isinstance(value, pa.RecordBatch) or not value.schema.names:
        return value if value.schema.names else None
    columns = [column.combine_chunks() for column in value.columns]
    return pa.record_batch(columns, value.schema.names)


def _arrow_row(value: object) -> pa.RecordBatch | None:
    """Return an Arrow row, or a table of one, as a record batch; None for the rest."""
    import pyarrow as pa

    if isinstance(value, pa.StructScalar) and value.is_valid and len(value):
        return pa.RecordBatch.from_struct_array(pa.array([value], value.type))
    columns = columns_of(value)
    return columns if columns is not None and columns.num_rows == 1 else None


def _fields(value: object) -> Mapping[str, Any] | None:
    """Return the fields of a value that can be a result; None for any other."""
    if isinstance(value, dict):
        return value
    if isinstance(value, CoroutineType):
        # Or Python would warn that nothing awaited it.
        value.close()
        return None
    if hasattr(value, "as_py"):
        value = value.as_py()
    if isinstance(value, Mapping):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if hasattr(value, "model_dump"):
        dumped = value.model_dump()
        return dumped if isinstance(dumped, Mapping) else None
    if hasattr(value, "to_pylist"):
        rows = value.to_pylist()
        if len(rows) == 1 and isinstance(rows[0], Mapping):
            return rows[0]
    return None


def rejected_result(reason: str) -> Failed:
    """Return the failure of a job whose result cannot be kept; a retry would give the same."""
    return Failed(truncated(reason), retry=False, error_type="result rejected")


def outcome_of_exception(error: BaseException, rules: RetryRules = RETRY_ALL) -> Outcome:
    """Return what an exception of a handler stands for; raise nothing."""
    if issubclass(type(error), Snooze):
        return _postponed(error, rules)
    kind = "an exception"
    try:
        kind = _clean(type(error).__name__)
        return _failure(error, kind, rules)
    except BaseException:  # noqa: BLE001 - an exception's own methods may raise anything, and the job must still fail
        discarded = issubclass(type(error), Discard)
        text = f"{kind}: (its text cannot be read)"
        return Failed(text, not discarded, error_type=kind, discarded=discarded, exception=error)


def _postponed(error: BaseException, rules: RetryRules) -> Outcome:
    throttles = issubclass(type(error), Throttled)
    longest = HOLD_SECONDS_MAX if throttles else RETRY_DELAY_SECONDS_MAX
    after: object = None
    # A subclass may set anything, or nothing, and raise where it is asked for it.
    with contextlib.suppress(BaseException):
        after = getattr(error, "after", None)
    if not isinstance(after, int | float) or not 0 <= after <= longest:
        if not throttles:
            # At once it would run again and again, since it keeps its retries.
            text = f"ValueError: a Snooze needs `after`, of 0 seconds to {longest // 86_400} days"
            return Failed(text, rules.retries(error), error_type="ValueError", exception=error)
        after = 0
    return Returned(math.ceil(1_000 * after), throttles)


def _failure(error: BaseException, kind: str, rules: RetryRules) -> Failed:
    location = _location(error)
    if isinstance(error, PayloadMismatchError):
        text = truncated(str(error))
        return Failed(text, False, error_type="payload rejected", exception=error)
    if isinstance(error, Discard):
        reason = _message(error) or "discarded by the handler"
        return Failed(truncated(reason), False, kind, location, discarded=True, exception=error)
    if isinstance(error, Retry):
        reason = truncated(_message(error) or "to be tried again")
        delay = _delay(error)
        return Failed(reason, True, kind, location, exception=error, delay_seconds=delay)
    return Failed(error_text(error), rules.retries(error), kind, location, exception=error)


def _delay(error: Retry) -> int | None:
    # A subclass may set anything, or nothing.
    after: object = getattr(error, "after", None)
    if isinstance(after, int | float) and 0 <= after <= RETRY_DELAY_SECONDS_MAX:
        return math.ceil(after)
    return None


def timed_out(seconds: int) -> Failed:
    """Return the failure of a job whose handler took longer than the job allows."""
    error = f"TimeoutError: the handler did not end within the job's {seconds} s"
    return Failed(error, retry=True, error_type="TimeoutError")


def error_text(error: BaseException) -> str:
    """Return `Type: message` and as much of the traceback's end as the limit of 2048 leaves."""
    kind = type(error).__name__
    message = _message(error)
    head = f"{kind}: {message}" if message else kind
    frames = _clean("".join(traceback.format_tb(_handler_frames(error)))).rstrip()
    if not frames:
        return truncated(head)
    head = truncated(head, _MESSAGE_MAX)
    room = ERROR_MAX - len(head) - 1
    if len(frames) > room:
        frames = "…" + frames[len(frames) - room + 1 :]
    return f"{head}\n{frames}"


def _message(error: BaseException) -> str:
    try:
        return _clean(str(error))
    except BaseException:  # noqa: BLE001 - somebody's __str__ may raise anything, the job must still fail
        return "(its text cannot be read)"


def truncated(text: str, limit: int = ERROR_MAX) -> str:
    """Return the text with at most `limit` characters, and with at least one, as the wire asks."""
    text = _clean(text) or "failed without a message"
    return shorten(text, limit)


def _clean(text: str) -> str:
    # A lone surrogate cannot be a protobuf string.
    # str's own method, for `__str__` may return a text of a class that overrides it.
    return str.encode(text, "utf-8", "replace").decode("utf-8").strip()


def _handler_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback without the worker's own frames."""
    trace = error.__traceback__.tb_next if error.__traceback__ else None
    while trace is not None and trace.tb_next is not None and _is_ours(trace):
        trace = trace.tb_next
    return trace


def _is_ours(trace: TracebackType) -> bool:
    return Path(trace.tb_frame.f_code.co_filename).is_relative_to(_WORKER_FOLDER)


def _location(error: BaseException) -> str:
    frames = traceback.extract_tb(_handler_frames(error))
    return f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
