"""Payloads checked against a schema: a JSON Schema, or a pydantic model.

The payload is checked as the worker will see it, and sent as it is: defaults and conversions of a
model are not put into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from spooled_pipelines.batch.options.row_options import PayloadSchema

# Returns why a payload does not fit, without any of its content, or None.
PayloadCheck: TypeAlias = Callable[[dict[str, Any]], str | None]


def make_payload_check(schema: PayloadSchema | None) -> PayloadCheck | None:
    """Return the function that checks a payload; None without a schema.

    Raises:
        InvalidArgumentError: it is not a schema, or the package that reads it is not installed.
    """
    if schema is None:
        return None
    if isinstance(schema, Mapping):
        return _check_by_json_schema(schema)
    if isinstance(schema, type) and hasattr(schema, "model_validate"):
        return _check_by_model(schema)
    raise InvalidArgumentError(
        "payload_schema must be a JSON Schema (a dict) or a pydantic model (its class), got "
        f"{type(schema).__name__}."
    )


def _check_by_json_schema(schema: Mapping[str, Any]) -> PayloadCheck:
    try:
        from jsonschema import SchemaError, validators
    except ImportError:
        raise InvalidArgumentError(
            "payload_schema as a JSON Schema needs the package jsonschema: pip install "
            "'spooled-pipelines[schema]'."
        ) from None
    cls = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        cls.check_schema(schema)
    except SchemaError as error:
        raise InvalidArgumentError(
            f"payload_schema must be a JSON Schema: {error.message}"
        ) from None
    validator = cls(schema)

    def check(payload: dict[str, Any]) -> str | None:
        error = next(validator.iter_errors(payload), None)
        if error is None:
            return None
        if error.validator == "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            return _reason([*error.absolute_path, *missing[:1]], "required")
        return _reason(error.absolute_path, str(error.validator))

    return check


def _check_by_model(model: type[BaseModel]) -> PayloadCheck:
    from pydantic import ValidationError

    def check(payload: dict[str, Any]) -> str | None:
        try:
            model.model_validate(payload)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            return _reason(first["loc"], first["type"])
        return None

    return check


def _reason(path: Iterable[str | int], rule: str) -> str:
    # Indices in a list are left out: rows with the same fault have the same reason.
    dotted = ".".join("[]" if isinstance(part, int) else str(part) for part in path)
    what = f"{dotted!r}" if dotted else "the payload"
    return f"{what} does not fit payload_schema: {rule}"
