"""Everything that can happen to a store, in the order that hypothesis chooses."""

from __future__ import annotations

from tests.support.proof.batch_rules import BatchRules
from tests.support.proof.job_rules import JobRules
from tests.support.proof.queue_rules import QueueRules


class StoreMachine(JobRules, BatchRules, QueueRules):
    """See `SideBySide` for what is compared."""
