"""Everything that can happen to a store, in the order that hypothesis chooses."""

from __future__ import annotations

from batch_rules import BatchRules
from job_rules import JobRules
from queue_rules import QueueRules


class StoreMachine(JobRules, BatchRules, QueueRules):
    """See `SideBySide` for what is compared."""
