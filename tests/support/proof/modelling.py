"""How long a store and its model are driven side by side."""

from __future__ import annotations

import datetime as dt
import os
from typing import Any

import hypothesis
from hypothesis.stateful import run_state_machine_as_test

from tests.support.proof.machine import StoreMachine
from tests.support.proof.side_by_side import Stores

# What every run of all tests does; a long run does more. An example of PostgreSQL's takes the
# processors ten times as long as one of SQLite's.
EXAMPLES, EXAMPLES_OF_POSTGRESQL, STEPS = 100, 20, 50
EXAMPLES_OF_A_LONG_RUN = 20_000
CHECKS = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
# After its first ten examples hypothesis goes on with small changes of those: six of seven end as
# another did. So it starts over instead.
_FRESH_EXAMPLES = 10


def seed_of_today() -> int:
    """Return a seed that moves from day to day, or the one that SPOOLED_PROOF_SEED says."""
    today = dt.datetime.now(dt.timezone.utc).date()
    return int(os.environ.get("SPOOLED_PROOF_SEED", today.toordinal() * 1_000))


def check(stores: Stores, examples: int, seed: int) -> None:
    """At least so many examples, the same for the same seed."""
    # Shown where it fails.
    print(f"to see it again: SPOOLED_PROOF_SEED={seed}")
    settings = hypothesis.settings(
        max_examples=_FRESH_EXAMPLES,
        stateful_step_count=STEPS,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=CHECKS,
    )
    for start in range(0, examples, _FRESH_EXAMPLES):
        machine: Any = hypothesis.seed(seed + start)(lambda: StoreMachine(stores))
        run_state_machine_as_test(machine, settings=settings)
