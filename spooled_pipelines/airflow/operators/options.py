"""What of an operator's arguments can be known to be wrong when the DAG is read."""

from __future__ import annotations

from typing import Any

from spooled_pipelines.airflow.operators.parquet_output import check_location
from spooled_pipelines.batch.outcome.verdict import check_max_failed
from spooled_pipelines.errors import InvalidArgumentError

_CHOICES = {
    "on_rejected": ("raise", "skip"),
    "on_empty": ("success", "skip", "fail"),
    "on_rerun": ("resume", "retry_failed", "fresh"),
    "on_breach": ("fail", "stop"),
}


def check_options(operator: Any) -> None:
    """InvalidArgumentError names the argument, its value, and what it may be."""
    if (operator.data is None) == (operator.sql is None):
        raise InvalidArgumentError(
            "EnqueueBatchOperator takes data=, or sql= and sql_conn_id=: give one of them"
        )
    if (operator.sql is None) != (operator.sql_conn_id is None):
        raise InvalidArgumentError(
            "sql= and sql_conn_id= go together: the query, and the connection to run it on"
        )
    for argument, choices in _CHOICES.items():
        value = getattr(operator, argument)
        if value not in choices:
            allowed = " or ".join(repr(choice) for choice in choices)
            raise InvalidArgumentError(f"{argument} is {allowed}, not {value!r}")
    if operator.part is not None:
        _check_part(operator)
    check_max_failed(operator.max_failed)
    for argument in ("ledger", "results"):
        if getattr(operator, argument) is not None:
            check_location(getattr(operator, argument), argument)
    if not operator.wait_for_completion and (
        operator.results is not None or operator.max_failed or operator.on_breach != "fail"
    ):
        raise InvalidArgumentError(
            "results=, max_failed= and on_breach= are about the end of the jobs: they need "
            "wait_for_completion=True, or a StreamJobsSensor and a BatchResultsOperator"
        )


def _check_part(operator: Any) -> None:
    if operator.name is None:
        raise InvalidArgumentError(
            "part= needs name=: the name that all parts of the batch give, such as '{{ run_id }}'"
        )
    if operator.on_rerun == "fresh":
        raise InvalidArgumentError(
            'on_rerun="fresh" begins a batch anew, and a part is not all of it: say "resume" or '
            '"retry_failed"'
        )
    if operator.wait_for_completion:
        raise InvalidArgumentError(
            "wait_for_completion=True is about a whole batch: let a StreamJobsSensor wait for all "
            "parts"
        )
