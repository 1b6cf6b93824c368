"""How much one transaction, or one answer, of a store takes on: so that nobody waits for long."""

from __future__ import annotations

# Jobs that one step of a cancel or a retry looks at.
STEP_JOBS = 2_000
# Jobs that one sweep releases or takes back.
SWEEP_JOBS = 1_000
# Payloads in one answer: a client takes messages of 4 MiB unless it is told otherwise.
ANSWER_BYTES = 3 << 20
# Jobs that one search looks at; the next page goes on from there.
SEARCHED_MAX = 10_000
