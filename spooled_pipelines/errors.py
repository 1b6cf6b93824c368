"""The errors of this package, as one tree. Each branch says who has to act.

SpooledError
├── InvalidArgumentError     the caller: a value is not what the contract allows
│   ├── EmptyTableError      the data: it has no rows
│   ├── RowsRejectedError    the data: some rows cannot be jobs (which, and why)
│   └── LossyValueError      the data: a value that a payload cannot hold exactly
├── SourceError              the data's owner: it could not be read to its end; try again
├── AuthenticationError      the operator: no key, or not a valid one
├── PermissionDeniedError    the operator: the key may not do this
├── NotFoundError            the caller: no such job, batch or worker (for this key)
├── ConflictError            the caller: it is not in a state that allows this
│   ├── LeaseLostError       a worker: the job is no longer its own, the result is void
│   └── PartsMissingError    the sender of the parts: the batch is not complete yet
├── RateLimitError           nobody: wait `retry_after` seconds
├── QuotaExceededError       the account's owner: waiting does not help
├── UnavailableError         the operator: no server, or it went away
├── DeadlineExceededError    nobody yet: no answer in time, what happened is not known
├── ServerError              us: the server failed
└── BatchError               the data's owner: a batch ended, or did not end, as asked
    ├── BatchFailedError     more jobs failed than was allowed
    └── BatchTimeoutError    the batch was not settled in time
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spooled_pipelines.text import plain

if TYPE_CHECKING:
    from spooled_pipelines.types import BatchStats

__all__ = [
    "AuthenticationError",
    "BatchError",
    "BatchFailedError",
    "BatchTimeoutError",
    "ConflictError",
    "DeadlineExceededError",
    "EmptyTableError",
    "InvalidArgumentError",
    "LeaseLostError",
    "LossyValueError",
    "NotFoundError",
    "PartsMissingError",
    "PermissionDeniedError",
    "QuotaExceededError",
    "RateLimitError",
    "RejectedRow",
    "RowsRejectedError",
    "ServerError",
    "SourceError",
    "SpooledError",
    "UnavailableError",
]


class SpooledError(Exception):
    """The root of everything this package raises on purpose.

    Attributes:
        message: what was wrong and what to do, in one or two sentences: `problem` and `hint`.
        problem: what was wrong.
        hint: what to do, where that depends on the interface: in Python, names of arguments.
        reason: a word for programs that tells errors of one class apart, such as
            ``"no_api_key"``; None where the class says it all.
        code: the gRPC status name, such as ``"UNAVAILABLE"``; None where no call was made.
        details: facts for programs, by name. Never holds a key or a payload.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        reason: str | None = None,
        code: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.problem = message
        self.hint = hint
        self.reason = reason
        self.code = code
        self.details: dict[str, object] = dict(details or {})

    @property
    def message(self) -> str:
        # What a server or a row says may hold what terminals obey.
        return plain(f"{self.problem} {self.hint}" if self.hint else self.problem)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process boundaries (executors, task runners); the default recipe
        # would call __init__ without its keyword arguments.
        return (_rebuild, (type(self), self.problem, self.__dict__))


def _rebuild(kind: type[SpooledError], message: str, attributes: dict[str, object]) -> SpooledError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(attributes)
    return error


class InvalidArgumentError(SpooledError):
    """A value is outside what the contract allows; the message names it and the limit."""


class EmptyTableError(InvalidArgumentError):
    """The table has no rows, so there is nothing to enqueue."""


class SourceError(SpooledError):
    """The data could not be read to its end, and nothing was sent; trying again may help.

    A disk, a network or a database failed.
    """


@dataclass(frozen=True)
class RejectedRow:
    """A row that cannot become a job: its number in the input (from 0), and why."""

    row: int
    reason: str


class RowsRejectedError(InvalidArgumentError):
    """Some rows cannot become jobs, and nothing was sent.

    Attributes:
        rejected: how many rows in all.
        examples: the first of them, at most ten.
        reasons: how many rows by reason.

    `table()` lists all of them.
    """

    def __init__(
        self,
        message: str,
        *,
        rejected: int,
        examples: Sequence[RejectedRow] = (),
        reasons: Mapping[str, int] | None = None,
        table: Callable[[], Any] | None = None,
        hint: str = "",
        reason: str = "rows_rejected",
    ) -> None:
        super().__init__(message, hint=hint, reason=reason, details={"rejected": rejected})
        self.rejected = rejected
        self.examples = tuple(examples)
        self.reasons = dict(reasons or {})
        self._table = table

    def table(self) -> Any:
        """Return an Arrow table of every rejected row's number and reason.

        None in another process than the one in which the error was raised.
        """
        return None if self._table is None else self._table()

    def __reduce__(self) -> tuple[object, ...]:
        # The list is in a file that ends with its process.
        return (_rebuild, (type(self), self.problem, {**self.__dict__, "_table": None}))


class LossyValueError(InvalidArgumentError):
    """A value would not survive the way to the worker unchanged, and nothing was sent.

    Attributes:
        column: the column's name; a path such as ``"order.items[0].price"`` where it is nested.
        row: the row's number in the input, from 0; None for a single payload.
        value: the value as text, shortened.
    """

    def __init__(
        self, message: str, *, column: str, row: int | None, value: str, hint: str = ""
    ) -> None:
        super().__init__(
            message, hint=hint, reason="lossy_value", details={"column": column, "row": row}
        )
        self.column = column
        self.row = row
        self.value = value


class AuthenticationError(SpooledError):
    """There was no API key, or the server does not know it."""


class PermissionDeniedError(SpooledError):
    """The key is valid, but may not do this."""


class NotFoundError(SpooledError):
    """No such job, batch or worker, or it is another organization's."""


class ConflictError(SpooledError):
    """The job, batch or worker is not in a state that allows this."""


class LeaseLostError(ConflictError):
    """The job's lease ran out or is another worker's: drop the result, the job runs again."""


class PartsMissingError(ConflictError):
    """A batch was not sealed, since parts of it are not in; those that are stay.

    Attributes:
        missing: ids of parts that were expected, or have begun and are not finished.
        finished: how many parts are in.
        expected: how many have to be; None: all that have begun.
    """

    def __init__(
        self,
        message: str,
        *,
        missing: Sequence[str],
        finished: int,
        expected: int | None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, code="FAILED_PRECONDITION", details=details)
        self.missing = tuple(missing)
        self.finished = finished
        self.expected = expected


class RateLimitError(SpooledError):
    """Too many calls a second; ``retry_after`` says how many seconds to wait."""

    def __init__(
        self,
        message: str,
        *,
        retry_after: float,
        code: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, code=code, details=details)
        self.retry_after = retry_after


class QuotaExceededError(SpooledError):
    """A limit of the plan is reached; waiting some seconds does not clear it."""


class UnavailableError(SpooledError):
    """No server answers at this address, or it went away in the middle."""


class DeadlineExceededError(SpooledError):
    """The server did not answer in time; whether it did the work is not known."""


class ServerError(SpooledError):
    """The server failed, or answered something that the contract does not know."""


class BatchError(SpooledError):
    """A batch did not come to the end that was asked for; ``stats`` says where it stands."""

    def __init__(self, message: str, *, stats: BatchStats | None = None) -> None:
        super().__init__(message, details={"batch_id": stats.batch_id} if stats else None)
        self.stats = stats


class BatchFailedError(BatchError):
    """More jobs of the batch failed than ``max_failed`` allows."""


class BatchTimeoutError(BatchError):
    """The batch was not settled within the time-out; the message names what holds it back."""
