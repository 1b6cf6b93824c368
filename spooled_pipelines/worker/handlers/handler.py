"""A handler as the worker calls it, and what its exceptions decide."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias, cast

from spooled_pipelines.rpc import tracing
from spooled_pipelines.worker.handlers.adapter import adapt
from spooled_pipelines.worker.handlers.batch_handlers import BatchOptions, batch_options
from spooled_pipelines.worker.jobs.context import JobContext
from spooled_pipelines.worker.jobs.outcome import (
    RETRY_ALL,
    Outcome,
    RetryRules,
    outcome_of_exception,
    outcome_of_return,
)


class _DataclassInstance(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


class _Model(Protocol):
    def model_dump(self) -> dict[str, Any]: ...


class _ArrowRow(Protocol):
    def as_py(self) -> Any: ...


class _ArrowRows(Protocol):
    def to_pylist(self) -> list[dict[str, Any]]: ...


# What a job's result is made from; and those of many jobs at once.
HandlerResult: TypeAlias = Mapping[str, Any] | _DataclassInstance | _Model | _ArrowRow | None
Rows: TypeAlias = Sequence[HandlerResult | BaseException] | _ArrowRows
# Of a job, its context, or its payload as a dataclass or a pydantic model; or of many jobs at once
# (see `batch_handler`).
Handler: TypeAlias = (
    "Callable[[Any], HandlerResult | Rows] | Callable[[Any], Awaitable[HandlerResult | Rows]] | "
    "Callable[[Any, Any], HandlerResult | Rows] | "
    "Callable[[Any, Any], Awaitable[HandlerResult | Rows]]"
)


@dataclass(frozen=True)
class BoundHandler:
    """A handler that is ready to be called; it may be sent to another process.

    Attributes:
        function: what the user gave.
        is_async: whether calling it makes a coroutine.
        batch: its options, where it takes many jobs at once.
        rules: what its exceptions decide.
    """

    function: Handler
    is_async: bool
    batch: BatchOptions | None = None
    rules: RetryRules = RETRY_ALL

    def adapted(self) -> Callable[[JobContext], object]:
        """Return it as a function of a context, whatever its parameters are."""
        return adapt(self.function)

    def call(self, adapted: Callable[[JobContext], object], context: JobContext) -> Outcome:
        """Call a plain handler in this thread."""
        try:
            with tracing.handling(context.job):
                value = adapted(context)
        except BaseException as error:  # noqa: BLE001 - the boundary: whatever a handler raises, SystemExit too, is its job's failure
            return outcome_of_exception(error, self.rules)
        return outcome_of_return(value, self.rules, keeps_types=context.keeps_types)

    async def call_async(
        self, adapted: Callable[[JobContext], object], context: JobContext
    ) -> Outcome:
        """Await an async handler. Its cancellation is let through."""
        try:
            with tracing.handling(context.job):
                value = await cast("Awaitable[object]", adapted(context))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - the boundary: whatever a handler raises, SystemExit too, is its job's failure
            return outcome_of_exception(error, self.rules)
        return outcome_of_return(value, self.rules, keeps_types=context.keeps_types)


def bind_handler(
    function: Handler,
    *,
    retry_on: Sequence[type[BaseException]] | None = None,
    discard_on: Sequence[type[BaseException]] = (),
) -> BoundHandler:
    """Return the function as a handler, checked before any job comes.

    Raises:
        TypeError: it is not a function.
        InvalidArgumentError: its parameter is of a type that needs pydantic, which is not there.
    """
    given: object = function
    if not callable(given):
        raise TypeError(f"handler must be a function of a job, got {type(given).__name__}")
    batch = batch_options(function)
    if batch is None:
        adapt(function)
    return BoundHandler(function, is_async(function), batch, RetryRules.of(retry_on, discard_on))


def is_async(function: Callable[..., object]) -> bool:
    """Return whether calling it makes a coroutine: async functions, their partials and objects."""
    while isinstance(function, functools.partial):
        function = function.func
    call = getattr(type(function), "__call__", None)  # noqa: B004 - the method itself is wanted
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
