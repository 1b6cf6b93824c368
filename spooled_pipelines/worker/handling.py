"""What a handler is: how it is called with a job, and what its exceptions decide."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, get_origin

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.types import Job
from spooled_pipelines.worker.outcome import (
    EVERYTHING_IS_RETRIED,
    Outcome,
    PayloadMisfitError,
    RetryRules,
    outcome_of_exception,
    outcome_of_return,
)
from spooled_pipelines.worker.rows import RowsOptions, options_of

# Of a job, or of a payload as a dataclass or a pydantic model; or of rows (see `batch_handler`).
Handler = Callable[..., Any]
_Fit = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Handling:
    """A handler, ready to be called; may be sent to another process.

    Attributes:
        function: as it was given.
        is_async: whether calling it makes a coroutine.
        rows: where it takes many jobs at once.
        rules: what its exceptions decide.
    """

    function: Handler
    is_async: bool
    rows: RowsOptions | None = None
    rules: RetryRules = EVERYTHING_IS_RETRIED

    def caller(self) -> Callable[[Job], Any]:
        """Calls it with what it asks for; raises PayloadMisfitError where that cannot be made."""
        return with_arguments(self.function)

    def outcome(self, call: Callable[[Job], Any], job: Job) -> Outcome:
        """Call a plain handler in this thread."""
        try:
            value = call(job)
        except BaseException as error:  # noqa: BLE001 - the boundary: whatever a handler raises, SystemExit too, is its job's failure
            return outcome_of_exception(error, self.rules)
        if inspect.iscoroutine(value):
            value.close()
        return outcome_of_return(value)

    async def awaited(self, call: Callable[[Job], Awaitable[Any]], job: Job) -> Outcome:
        """Await an async one. Its cancellation is let through."""
        try:
            return outcome_of_return(await call(job))
        except Exception as error:  # noqa: BLE001 - the boundary: a handler may raise anything
            return outcome_of_exception(error, self.rules)


def handling_of(
    handler: Handler,
    *,
    retry_on: Sequence[type[BaseException]] | None = None,
    discard_on: Sequence[type[BaseException]] = (),
) -> Handling:
    """Look at a handler once, before any job comes.

    Raises:
        TypeError: it is no function.
        InvalidArgumentError: its parameter is of a type that needs pydantic, which is not there.
    """
    given: object = handler
    if not callable(given):
        kind = type(given).__name__
        raise TypeError(f"handler should be a function of one job, and is a {kind}")
    rows = options_of(handler)
    if rows is None:
        with_arguments(handler)
    return Handling(handler, is_async(handler), rows, RetryRules.of(retry_on, discard_on))


def is_async(handler: Callable[..., Any]) -> bool:
    """Whether calling it makes a coroutine: async functions, partials and objects of such."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    call = getattr(type(handler), "__call__", None)  # noqa: B004 - the method itself is wanted
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)


def with_arguments(handler: Handler) -> Callable[[Job], Any]:
    """The handler as a function of a job: each of its parameters gets the job or the payload."""
    kinds = _kinds(handler)
    if all(kind is Job for kind in kinds):
        return handler
    fits = [None if kind is Job else _fit(kind) for kind in kinds]
    if fits == [None]:
        return handler
    if len(fits) == 1 and fits[0] is not None:
        only: _Fit = fits[0]
        return lambda job: handler(only(job.payload))
    return lambda job: handler(*(job if fit is None else fit(job.payload) for fit in fits))


def _kinds(handler: Handler) -> list[Any]:
    """Job, or the payload's type, for each parameter that has to be given."""
    try:
        signature = inspect.signature(handler, eval_str=True)
    except NameError:
        # Names that exist for the type checker alone.
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return [Job]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [
        each
        for each in signature.parameters.values()
        if each.kind in positional and each.default is inspect.Parameter.empty
    ]
    return [_kind(each.annotation) for each in parameters] or [Job]


def _kind(annotation: Any) -> Any:
    annotation = get_origin(annotation) or annotation
    if not isinstance(annotation, type) or issubclass(annotation, Job):
        return Job
    is_payload = issubclass(annotation, Mapping) or is_dataclass(annotation)
    return annotation if is_payload or hasattr(annotation, "model_validate") else Job


def _fit(kind: Any) -> _Fit:
    if issubclass(kind, Mapping):
        return lambda payload: payload
    try:
        # An extra, and slow to import.
        from pydantic import TypeAdapter, ValidationError
    except ImportError:
        raise InvalidArgumentError(
            f"a handler of {kind.__name__} needs pydantic, which checks what payloads hold: "
            "pip install 'spooled-pipelines[worker]'"
        ) from None
    validate = TypeAdapter(kind).validate_python

    def fit(payload: dict[str, Any]) -> Any:
        try:
            return validate(payload)
        except ValidationError as error:
            # Without what the payload holds.
            found = error.errors(include_url=False, include_input=False, include_context=False)
            wrong = "; ".join(
                f"{'.'.join(map(str, each['loc'])) or 'payload'}: {each['msg']}" for each in found
            )
            message = f"the payload does not fit {kind.__name__}: {wrong}"
            raise PayloadMisfitError(message) from None

    return fit
