"""Calling a handler with what its parameters ask for: the job, its row, payload or context."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any, get_origin

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.types import Job
from spooled_pipelines.worker.jobs.context import JobContext
from spooled_pipelines.worker.jobs.outcome import PayloadMismatchError

_PayloadAdapter = Callable[[dict[str, Any]], object]


def adapt(function: Callable[..., object]) -> Callable[[JobContext], object]:
    """Return the function as one of a `JobContext`: each parameter gets what it is annotated with.

    Calling it raises PayloadMismatchError where the payload does not fit the annotation.

    Raises:
        InvalidArgumentError: a parameter is of a type that needs pydantic, which is not there.
    """
    types = _parameter_types(function)
    if all(each is Job for each in types):
        return lambda context: function(context.job)
    arguments = [_argument(each) for each in types]
    return lambda context: function(*(argument(context) for argument in arguments))


def signature_of(function: Callable[..., object]) -> inspect.Signature | None:
    """Return the signature, its annotations evaluated where they can be; None for some builtins."""
    try:
        return inspect.signature(function, eval_str=True)
    except NameError:
        # Names that exist for the type checker alone.
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def payload_adapter(kind: type) -> _PayloadAdapter:
    """Return what makes a `kind` of a payload: a mapping, a dataclass or a pydantic model."""
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

    def adapt_payload(payload: dict[str, Any]) -> object:
        try:
            return validate(payload)
        except ValidationError as error:
            # Without what the payload holds.
            found = error.errors(include_url=False, include_input=False, include_context=False)
            wrong = "; ".join(
                f"{'.'.join(map(str, each['loc'])) or 'payload'}: {each['msg']}" for each in found
            )
            message = f"the payload does not fit {kind.__name__}: {wrong}"
            raise PayloadMismatchError(message) from None

    return adapt_payload


def _argument(kind: type) -> Callable[[JobContext], object]:
    if kind is JobContext:
        return lambda context: context
    if kind is Job:
        return lambda context: context.job
    adapt_payload = payload_adapter(kind)
    if issubclass(kind, Mapping):
        return lambda context: adapt_payload(context.job.payload)
    return lambda context: _from_row(adapt_payload, context.job)


def _from_row(adapt_payload: _PayloadAdapter, job: Job) -> object:
    """Return the argument made of the job's row; or of its payload, whose texts may be wanted."""
    if job.schema is None:
        return adapt_payload(job.payload)
    try:
        return adapt_payload(job.row)
    except PayloadMismatchError as error:
        try:
            return adapt_payload(job.payload)
        except PayloadMismatchError:
            raise error from None


def _parameter_types(function: Callable[..., object]) -> list[type]:
    """Return Job, JobContext or the payload's type for each parameter that has to be given."""
    signature = signature_of(function)
    if signature is None:
        return [Job]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [
        each
        for each in signature.parameters.values()
        if each.kind in positional and each.default is inspect.Parameter.empty
    ]
    return [_parameter_type(each.annotation) for each in parameters] or [Job]


def _parameter_type(annotation: object) -> type:
    annotation = get_origin(annotation) or annotation
    if not isinstance(annotation, type) or issubclass(annotation, Job):
        return Job
    if issubclass(annotation, JobContext):
        return JobContext
    is_payload = issubclass(annotation, Mapping) or is_dataclass(annotation)
    return annotation if is_payload or hasattr(annotation, "model_validate") else Job
