"""Arguments that are templates: which are, and what their rendered text says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, ClassVar

from airflow.sdk import Context
from airflow.sdk.definitions._internal.mixins import ResolveMixin
from jinja2 import Environment
from jinja2.nativetypes import NativeEnvironment

from spooled_pipelines.errors import InvalidArgumentError

_MARKS = ("{{", "{%")


def is_template(value: object) -> bool:
    """Whether the value, or anything in it, is known only when the task runs."""
    if isinstance(value, str):
        return any(mark in value for mark in _MARKS)
    if isinstance(value, Mapping):
        return any(map(is_template, value.values()))
    if isinstance(value, (list, tuple, set)):
        return any(map(is_template, value))
    return isinstance(value, ResolveMixin)


def refuse_templates(operator: type, arguments: Mapping[str, object]) -> None:
    """Raise InvalidArgumentError for a template that would never be rendered.

    Args:
        operator: its `untemplated_fields` are looked at.
        arguments: of the operator, by name.
    """
    for name in getattr(operator, "untemplated_fields", ()):
        if is_template(arguments.get(name)):
            raise InvalidArgumentError(
                f"{name} is read with the DAG, so it cannot be a template, got {arguments[name]!r}"
            )


def parse_number(value: Any) -> Any:
    """Return the number that a rendered text says; anything else as it is."""
    if isinstance(value, str):
        with suppress(ValueError):
            return int(value)
        with suppress(ValueError):
            return float(value)
    return value


def parse_flag(value: Any) -> Any:
    """Return the truth that a rendered text says; anything else as it is."""
    words = {"true": True, "false": False}
    return words.get(value.strip().lower(), value) if isinstance(value, str) else value


def check_flag(value: object, name: str) -> None:
    """Raise InvalidArgumentError unless the value is True or False."""
    if not isinstance(value, bool):
        raise InvalidArgumentError(
            f"{name} must be True or False, or a template of one of them, got {value!r}"
        )


def parse_duration(value: Any) -> Any:
    """Return the duration that a rendered number of seconds says; anything else as it is."""
    seconds = parse_number(value)
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    return timedelta(seconds=seconds) if is_number else value


def parse_moment(value: Any) -> Any:
    """Return the time that a rendered text says; anything else, such as a column, as it is."""
    if not isinstance(value, str):
        return value
    try:
        # Python before 3.11 does not know the Z.
        return datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
    except ValueError:
        return value


def parse_text(value: Any) -> Any:
    """Return a number as its text, also in a mapping; anything else as it is."""
    if isinstance(value, Mapping):
        return {name: parse_text(text) for name, text in value.items()}
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value) if is_number else value


class TextTemplates:
    """An operator's base whose texts stay texts in a DAG that renders templates as objects.

    With `render_template_as_native_obj=True` the name "2.10" would become the number 2.1.

    Attributes:
        text_fields: template fields that are texts, or mappings to texts.
        untemplated_fields: arguments that are not template fields.
    """

    text_fields: ClassVar[tuple[str, ...]] = ("queue_name", "spooled_conn_id")
    untemplated_fields: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """As Airflow's, for which nothing else is checked before the task runs."""
        refuse_templates(cls, kwargs)
        return super().partial(**kwargs)  # type: ignore[misc]

    # Airflow calls this for mapped tasks, too.
    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: Environment,
        seen_oids: set[int],
    ) -> None:
        texts: set[str] = set()
        if parent is self and isinstance(jinja_env, NativeEnvironment):
            # As jinja2 makes an overlay, but of the class whose templates give text.
            environment = object.__new__(Environment)
            vars(environment).update(vars(jinja_env))
            for name in self.text_fields:
                value = getattr(self, name)
                if id(value) not in seen_oids and _has_texts_only(value):
                    setattr(self, name, _as_text(value, environment, context))
                    texts.add(name)
        others = [name for name in template_fields if name not in texts]
        super()._do_render_template_fields(  # type: ignore[misc]
            parent, others, context, jinja_env, seen_oids
        )


def _has_texts_only(value: object) -> bool:
    values = value.values() if isinstance(value, dict) else (value,)
    return all(isinstance(text, str) for text in values)


def _as_text(value: Any, environment: Environment, context: Context) -> Any:
    if isinstance(value, dict):
        return {name: _as_text(text, environment, context) for name, text in value.items()}
    return environment.from_string(value).render({**context})
