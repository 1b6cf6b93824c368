"""What a task does where there is nothing to do."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

from spooled_pipelines.airflow.arguments.templates import is_template
from spooled_pipelines.airflow.platform.versions import AirflowFailException, AirflowSkipException
from spooled_pipelines.rpc import validation

OnEmpty: TypeAlias = Literal["success", "skip", "fail"]


def check_on_empty(on_empty: Any) -> None:
    """Raise InvalidArgumentError, which names the choices, if it is not one of them."""
    if not is_template(on_empty):
        validation.one_of(on_empty, "on_empty", get_args(OnEmpty))


def report_empty(on_empty: Any, message: str, log: Any) -> None:
    """Log the message, or end the task with it.

    Raises:
        AirflowSkipException, AirflowFailException: `on_empty` says so.
        InvalidArgumentError: it is not one of its choices.
    """
    check_on_empty(on_empty)
    if on_empty == "skip":
        raise AirflowSkipException(message)
    if on_empty == "fail":
        raise AirflowFailException(message)
    log.info("%s", message)
