"""Payloads checked against a schema: a JSON Schema, or a pydantic model.

What is checked is the payload as the worker will see it. It is sent as it is: defaults and
conversions of a model are not put into it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from spooled_pipelines.errors import InvalidArgumentError

# Gives why a payload does not fit, without any of its content, or None.
PayloadCheck: TypeAlias = Callable[[dict[str, Any]], str | None]


def payload_check(schema: Any) -> PayloadCheck | None:
    """What checks a payload.

    Raises:
        InvalidArgumentError: it is no schema, or the package that reads it is not installed.
    """
    if schema is None:
        return None
    if isinstance(schema, Mapping):
        return _json_schema(schema)
    if isinstance(schema, type) and hasattr(schema, "model_validate"):
        return _model(schema)
    raise InvalidArgumentError(
        f"payload_schema is a {type(schema).__name__}, and has to be a JSON Schema (a dict) or a "
        "pydantic model (its class)."
    )


def _json_schema(schema: Mapping[str, Any]) -> PayloadCheck:
    try:
        from jsonschema import SchemaError, validators
    except ImportError:
        raise InvalidArgumentError(
            "payload_schema as a JSON Schema needs the package jsonschema: pip install "
            "'spooled-pipelines[schema]'."
        ) from None
    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise InvalidArgumentError(f"payload_schema is no JSON Schema: {error.message}") from None
    validator = kind(schema)

    def check(payload: dict[str, Any]) -> str | None:
        error = next(validator.iter_errors(payload), None)
        if error is None:
            return None
        if error.validator == "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            return _reason([*error.absolute_path, *missing[:1]], "required")
        return _reason(error.absolute_path, str(error.validator))

    return check


def _model(model: Any) -> PayloadCheck:
    from pydantic import ValidationError

    def check(payload: dict[str, Any]) -> str | None:
        try:
            model.model_validate(payload)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            return _reason(first["loc"], first["type"])
        return None

    return check


def _reason(path: Any, rule: str) -> str:
    # Places in a list are left out: rows with the same fault have the same reason.
    shown = ".".join("[]" if isinstance(part, int) else str(part) for part in path)
    what = f"{shown!r}" if shown else "the payload"
    return f"{what} does not fit payload_schema: {rule}"
