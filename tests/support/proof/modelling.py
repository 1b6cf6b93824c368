"""How long a store and its model are driven side by side."""

from __future__ import annotations

import hypothesis
from hypothesis.stateful import run_state_machine_as_test

from tests.support.proof.machine import StoreMachine
from tests.support.proof.side_by_side import Stores

# What every run of all tests does; a long run does more, from a seed of its own. An example of
# PostgreSQL's takes the processors ten times as long as one of SQLite's.
EXAMPLES, EXAMPLES_OF_POSTGRESQL, STEPS = 500, 200, 50
EXAMPLES_OF_A_LONG_RUN = 20_000
CHECKS = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
# After its first ten examples hypothesis goes on with small changes of those: six of seven end as
# another did. So it begins anew instead.
_FRESH_EXAMPLES = 10


def check(stores: Stores, examples: int, seed: int) -> None:
    """At least so many examples, the same for the same seed."""
    settings = hypothesis.settings(
        max_examples=_FRESH_EXAMPLES,
        stateful_step_count=STEPS,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=CHECKS,
    )
    for start in range(0, examples, _FRESH_EXAMPLES):
        machine = hypothesis.seed(seed + start)(lambda: StoreMachine(stores))
        run_state_machine_as_test(machine, settings=settings)
