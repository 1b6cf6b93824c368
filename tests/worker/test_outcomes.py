"""What a handler's end means for its job."""

from __future__ import annotations

import pytest

from spooled_pipelines.wire.limits import ERROR_MAX
from spooled_pipelines.worker import Discard
from spooled_pipelines.worker.jobs.outcome import (
    Completed,
    Failed,
    Outcome,
    outcome_of_exception,
    outcome_of_return,
)


def raised_by(handler: object) -> Failed:
    # As a worker calls it: one frame of its own, then the handler's.
    try:
        handler()
    except BaseException as error:  # noqa: BLE001 - as the worker does
        outcome = outcome_of_exception(error)
        assert isinstance(outcome, Failed)
        return outcome
    raise AssertionError("the handler raised nothing")


def test_a_mapping_is_the_result_and_none_is_no_result() -> None:
    outcome = outcome_of_return({"a": 1})
    assert isinstance(outcome, Completed)
    assert outcome.result == {"a": 1}
    assert outcome_of_return(None) == Completed(None)


@pytest.mark.parametrize("value", [[1], "text", 7, object()])
def test_anything_else_fails_the_job_for_good(value: object) -> None:
    outcome = outcome_of_return(value)
    assert isinstance(outcome, Failed)
    assert not outcome.retry
    assert type(value).__name__ in outcome.error


def test_an_exception_tells_type_message_and_where() -> None:
    def handler() -> None:
        raise KeyError("order_id")

    outcome = raised_by(handler)
    assert outcome.retry
    assert outcome.error.startswith("KeyError: 'order_id'\n")
    assert 'raise KeyError("order_id")' in outcome.error
    assert "raised_by" not in outcome.error
    assert outcome.error_type == "KeyError"
    assert "test_outcomes.py" in outcome.location


def test_a_deep_traceback_keeps_its_end_within_the_limit() -> None:
    def handler(depth: int = 200) -> None:
        if depth == 0:
            raise ValueError("bad " + "x" * 5_000)
        # Two ways down, so that the lines are not folded into one.
        if depth % 2:
            handler(depth - 1)
        else:
            handler(depth - 1)

    error = raised_by(handler).error
    assert len(error) <= ERROR_MAX
    assert error.startswith("ValueError: bad xxx")
    assert error.endswith('raise ValueError("bad " + "x" * 5_000)')


def test_discard_gives_up_with_its_reason_alone() -> None:
    def handler() -> None:
        raise Discard("cancelled by the customer")

    outcome = raised_by(handler)
    assert (outcome.error, outcome.retry) == ("cancelled by the customer", False)


@pytest.mark.parametrize(
    "error", [ValueError(), Discard(), SystemExit(), ValueError("\udc80"), ValueError("x" * 9_000)]
)
def test_every_error_has_a_text_that_the_wire_takes(error: BaseException) -> None:
    outcome: Outcome = outcome_of_exception(error)
    assert isinstance(outcome, Failed)
    assert 1 <= len(outcome.error) <= ERROR_MAX
    assert outcome.error.encode()


def test_an_error_without_a_readable_text_is_still_an_error() -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert raised_by(lambda: (_ for _ in ()).throw(OddError())).error.startswith("OddError")
