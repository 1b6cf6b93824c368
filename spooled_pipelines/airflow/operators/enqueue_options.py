"""The arguments of `EnqueueBatchOperator`: which are templates, and what each of them may be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields
from typing import Any, get_args

from spooled_pipelines.airflow.arguments.on_empty import OnEmpty
from spooled_pipelines.airflow.arguments.templates import (
    check_flag,
    is_template,
    parse_duration,
    parse_flag,
    parse_moment,
    parse_number,
    parse_text,
)
from spooled_pipelines.airflow.operators.data_source import check_source
from spooled_pipelines.airflow.operators.enqueue_request import check_part
from spooled_pipelines.airflow.operators.output_file import (
    LEDGER_FORMATS,
    check_output_format,
    check_output_path,
)
from spooled_pipelines.batch.options.row_options import OnRerun, RowOptions
from spooled_pipelines.batch.outcome.verdict import OnBreach, check_max_failed
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc import validation

# A query's connection is one of Airflow's here.
_OWN = {"sql", "connection", "parameters", "name", "ledger", "part_id"}
ROW_FIELDS = tuple(field.name for field in fields(RowOptions) if field.name not in _OWN)
# A schema may have any text in it, and what is true or false decides what the DAG is.
UNTEMPLATED = ("index", "payload_schema", "wait_for_completion", "deferrable", "cancel_on_kill")
TEMPLATE_FIELDS = (
    *("data", "sql", "sql_conn_id", "parameters", "op_kwargs", "queue_name"),
    *(name for name in ROW_FIELDS if name not in UNTEMPLATED),
    *("name", "part", "on_empty", "on_rerun", "wait_timeout", "max_failed", "on_breach"),
    "allow_expired",
    *("ledger", "results", "spooled_conn_id"),
)
TEXT_FIELDS = (
    *("sql_conn_id", "queue_name", "name", "part", "tags", "key", "payload"),
    *("ledger", "results", "spooled_conn_id"),
)
_CHOICES: dict[str, tuple[str, ...]] = {
    "on_empty": get_args(OnEmpty),
    "on_rerun": get_args(OnRerun),
    "on_breach": get_args(OnBreach),
}
_PARSE: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("priority", "max_retries", "timeout_seconds"), parse_number),
    **dict.fromkeys(("rate", "max_failed", "weight"), parse_number),
    **dict.fromkeys(("spread", "wait_timeout"), parse_duration),
    **dict.fromkeys(("queue_name", "name", "part", "tags", "fair_by"), parse_text),
    **dict.fromkeys(("scheduled_at", "expires_at"), parse_moment),
    "allow_expired": parse_flag,
}

_CHECKED = (
    *ROW_FIELDS,
    *_CHOICES,
    "max_failed",
    "allow_expired",
    "wait_timeout",
    "ledger",
    "results",
)


def check_queue(queue_name: Any, others: Mapping[str, Any]) -> None:
    """Raise InvalidArgumentError where there is no queue, or the executor's instead of it."""
    if queue_name is None or queue_name == "":
        hint = ": queue= is Airflow's own, and names workers of its executor" * ("queue" in others)
        raise InvalidArgumentError(f"queue_name= must name the queue of the jobs{hint}")


def find_templates(arguments: Mapping[str, Any]) -> set[str]:
    """Return the names of those arguments whose rendered text says something else than text."""
    return {name for name in _PARSE if is_template(arguments[name])}


def parse_rendered(
    arguments: Mapping[str, Any], templates: Collection[str]
) -> Iterator[tuple[str, Any]]:
    """Yield name and value of those of the rendered arguments that are not to stay as they are.

    Args:
        arguments: by name.
        templates: which of them were templates. A number that an author wrote as text is a column.

    Raises:
        InvalidArgumentError: a name has no value.
    """
    for name in ("queue_name", "name", "part"):
        if name in templates and arguments[name] == "None":
            # As a name it would be that of all runs, and of other DAGs.
            raise InvalidArgumentError(
                f"{name} was rendered to None: a parameter or Variable has no value. Give it one, "
                "or say what is meant then, as in {{ params.name or '' }} (the default)"
            )
    for name, parse in _PARSE.items():
        if name in templates or parse is parse_text:
            yield name, parse(arguments[name])


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise InvalidArgumentError for what is wrong whatever the data is.

    Args:
        arguments: by name; those that are templates, or missing, are not looked at.
    """
    given = {name: arguments[name] for name in _CHECKED if name in arguments}
    known = {name: value for name, value in given.items() if not is_template(value)}
    # This checks the choices among them.
    RowOptions(**{name: known[name] for name in ROW_FIELDS if name in known})
    for name, choices in _CHOICES.items():
        if name in known:
            validation.one_of(known[name], name, choices)
    if "max_failed" in known:
        check_max_failed(known["max_failed"])
    check_flag(known.get("allow_expired", False), "allow_expired")
    for name in ("spread", "wait_timeout"):
        if isinstance(known.get(name), str):
            raise InvalidArgumentError(
                f"{name} must be a timedelta, or a template of a number of seconds, got "
                f"{known[name]!r}"
            )
    for name in ("ledger", "results"):
        if known.get(name) is not None:
            check_output_path(known[name], name)


def check_together(arguments: Mapping[str, Any]) -> None:
    """Raise InvalidArgumentError for arguments that do not go together."""
    check_source(*(arguments[name] for name in ("data", "sql", "sql_conn_id")))
    waits = bool(arguments["wait_for_completion"])
    if arguments["part"] is not None:
        check_part(arguments["on_rerun"], waits)
    about_the_end = arguments["results"] is not None or arguments["max_failed"]
    about_the_end = about_the_end or arguments["allow_expired"]
    if (about_the_end or arguments["on_breach"] != "raise") and not waits:
        raise InvalidArgumentError(
            "results=, max_failed=, on_breach= and allow_expired= are about the end of the jobs: "
            "they need wait_for_completion=True, or a StreamJobsSensor and a BatchResultsOperator"
        )


def check_files(arguments: Mapping[str, Any]) -> None:
    """Raise InvalidArgumentError for files to write whose names say no format for them.

    This loads pyarrow, so it is for a task that runs.
    """
    if arguments["ledger"] is not None:
        check_output_format(arguments["ledger"], LEDGER_FORMATS)
    if arguments["results"] is not None:
        check_output_format(arguments["results"])
