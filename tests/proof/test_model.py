"""Whatever happens, in whatever order: a store does what a plain model of it does."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis
import pytest
from hypothesis.stateful import run_state_machine_as_test
from machine import StoreMachine

CHECKS = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
# Examples and steps of each store in a run of all tests.
SAMPLE = {"sqlite": (60, 40), "postgresql": (15, 30)}


def check(new_store: Callable[[], str], examples: int, steps: int, *, chosen: bool) -> None:
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=not chosen,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=CHECKS,
    )
    run_state_machine_as_test(lambda: StoreMachine(new_store), settings=settings)


def test_a_store_and_its_model_never_differ(
    new_store: Callable[[], str], request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.params["new_store"]
    check(new_store, *SAMPLE[kind], chosen=False)


@pytest.mark.long
@pytest.mark.timeout(24 * 3600)
def test_a_store_and_its_model_never_differ_however_long(
    new_store: Callable[[], str], size: Callable[[str, int], int]
) -> None:
    """20 000 examples take hours: SPOOLED_PROOF_EXAMPLES=20000."""
    check(new_store, size("examples", 500), size("steps", 50), chosen=True)
