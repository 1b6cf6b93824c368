"""Calls about many jobs, which take one step in each transaction: how far one of them is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from typing_extensions import Self

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.batches.records import RetryOutcome

# Who repeats a call does so within minutes.
KEPT_MS = 60 * 60 * 1000
_NAMED = 10


class Step(NamedTuple):
    """How many jobs were changed, and the place to go on from; None at the end."""

    changed: int
    after: int | None
    # Jobs that would have been revived, had their payloads not been removed.
    stripped: Sequence[int] = ()
    # The youngest job that is meant, where those that come later are not.
    highest: int | None = None


class Progress(NamedTuple):
    """What the steps of a call did so far; kept with its request id, where it has one."""

    changed: int = 0
    after: int | None = 0
    stripped: int = 0
    # The first of them.
    stripped_jobs: tuple[int, ...] = ()
    highest: int | None = None

    def plus(self, step: Step) -> Self:
        """Return the progress after another step."""
        return self._replace(
            changed=self.changed + step.changed,
            after=step.after,
            stripped=self.stripped + len(step.stripped),
            stripped_jobs=(*self.stripped_jobs, *step.stripped)[:_NAMED],
            highest=step.highest,
        )

    def retried(self, prefix: str) -> RetryOutcome:
        """Return the outcome, where the steps put jobs back."""
        named = [ids.job_id(prefix, seq) for seq in self.stripped_jobs]
        return RetryOutcome(self.changed, self.stripped, named)

    def kept(self) -> str:
        """Return it as the store keeps it."""
        return json.dumps(self)

    @classmethod
    def of(cls, kept: str) -> Self:
        """Return what was kept."""
        progress = cls._make(json.loads(kept))
        return progress._replace(stripped_jobs=tuple(progress.stripped_jobs))


DONE = Progress(after=None)
