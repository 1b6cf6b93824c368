"""How each of many jobs was when it was last asked for, in flat memory."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator

from spooled_pipelines.types import JobStatus

_LOT = 1_000
_SETTLED = [status.value for status in JobStatus if status.settled]
_OPEN_BEHIND = f"""
SELECT id FROM jobs WHERE id > ? AND status NOT IN ({", ".join("?" * len(_SETTLED))})
ORDER BY id LIMIT {_LOT}
"""  # noqa: S608 - the words are our own


class KnownJobs:
    """Each id once, pending until something else was learned of it; kept on the disk."""

    def __init__(self, job_ids: Iterable[str]) -> None:
        # A database without a name is a temporary file, gone with the connection.
        self._jobs = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        # Nothing is to survive a crash of this file.
        self._jobs.execute("PRAGMA journal_mode = OFF")
        self._jobs.execute(
            "CREATE TABLE jobs (id TEXT PRIMARY KEY, status TEXT NOT NULL) WITHOUT ROWID"
        )
        self._jobs.execute("BEGIN")
        rows = ((job_id, JobStatus.PENDING.value) for job_id in job_ids)
        self._jobs.executemany("INSERT OR IGNORE INTO jobs VALUES (?, ?)", rows)
        self._jobs.execute("COMMIT")
        (self.total,) = self._jobs.execute("SELECT count(*) FROM jobs").fetchone()
        self._counts = Counter({JobStatus.PENDING: self.total})

    def open(self) -> Iterator[str]:
        """Those that have not settled, as far as is known; what is learned meanwhile is heeded."""
        last = ""
        while found := self._jobs.execute(_OPEN_BEHIND, (last, *_SETTLED)).fetchall():
            yield from (job_id for (job_id,) in found)
            (last,) = found[-1]

    def learn(self, job_id: str, status: JobStatus) -> None:
        """What one of them is now."""
        known = self._jobs.execute("SELECT status FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if known is None or known == (status.value,):
            return
        self._jobs.execute("UPDATE jobs SET status = ? WHERE id = ?", (status.value, job_id))
        self._counts[JobStatus(known[0])] -= 1
        self._counts[status] += 1

    def counts(self) -> Counter[JobStatus]:
        """How many there are of each status."""
        return Counter(self._counts)
