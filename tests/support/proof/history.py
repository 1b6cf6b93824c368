"""What claimers noted, checked against each other and against the store."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from spooled_pipelines.server.core.jobs.records import JobRecord, Status
from spooled_pipelines.wire.well_known import Struct


@dataclass
class Lease:
    """A lease as its holder saw it. Times are the server's, in milliseconds."""

    lease_id: str
    start: int
    # Known to last until then; `is_open` where a renewal got no answer, so that it may be longer.
    end: int
    is_open: bool = False
    tried: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    # The acts that the server said yes to.
    done: list[str] = field(default_factory=list)
    refused: int = 0


@dataclass
class Findings:
    """How much happened, and what should never have."""

    jobs: int = 0
    leases: int = 0
    jobs_leased_again: int = 0
    settled: int = 0
    refused: int = 0
    unanswered: int = 0
    double_leases: list[str] = field(default_factory=list)
    stale_settles: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.jobs} jobs, {self.leases} leases ({self.jobs_leased_again} jobs more than "
            f"once), {self.settled} settles said done, {self.refused} refused, "
            f"{self.unanswered} without answer; double leases: {len(self.double_leases)}, "
            f"stale settles: {len(self.stale_settles)}, jobs that are wrong: {len(self.wrong)}"
        )


def read(files: Iterable[Path]) -> dict[str, dict[str, Lease]]:
    """The leases of each job by their id."""
    found: dict[str, dict[str, Lease]] = defaultdict(dict)
    for fact in _facts(files):
        leases = found[fact["job"]]
        if fact["what"] == "claim":
            assert fact["lease"] not in leases, f"lease {fact['lease']} was handed out twice"
            leases[fact["lease"]] = Lease(fact["lease"], fact["start"], fact["end"])
            continue
        lease, act = leases[fact["lease"]], fact["act"]
        if fact["what"] == "try":
            lease.tried[act] += 1
            lease.is_open = lease.is_open or act == "renew"
            continue
        lease.tried[act] -= 1
        lease.is_open = lease.tried["renew"] > 0
        if fact["code"] != "OK":
            assert fact["code"] == "FAILED_PRECONDITION", fact
            lease.refused += 1
        elif act == "renew":
            lease.end = max(lease.end, fact["end"])
        else:
            lease.done.append(act)
    return found


def _facts(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for file in files:
        with file.open() as lines:
            yield from map(json.loads, lines)


def check(history: dict[str, dict[str, Lease]], records: Iterable[JobRecord]) -> Findings:
    """Every job of the store against all that was noted about it."""
    found = Findings()
    known = set()
    for record in records:
        known.add(record.job_id)
        leases = sorted(history.get(record.job_id, {}).values(), key=lambda lease: lease.start)
        found.jobs += 1
        found.leases += len(leases)
        found.jobs_leased_again += len(leases) > 1
        found.settled += sum(len(lease.done) for lease in leases)
        found.refused += sum(lease.refused for lease in leases)
        found.unanswered += sum(count for lease in leases for count in lease.tried.values())
        # Each begins when the one before it has ended.
        for earlier, later in pairwise(leases):
            if later.start < earlier.end:
                found.double_leases.append(f"{record.job_id}: {earlier} and {later}")
        _check_settles(record, leases, found)
    found.wrong += [f"{job_id} is not in the store" for job_id in history.keys() - known]
    return found


def _check_settles(record: JobRecord, leases: list[Lease], found: Findings) -> None:
    done = [(lease, act) for lease in leases for act in lease.done]
    if len(done) > 1:
        found.stale_settles.append(f"{record.job_id} was settled more than once: {done}")
    for lease, _ in done:
        # The one who settles is the last who ever held the job.
        if lease is not leases[-1] or lease.lease_id != record.lease_id:
            found.stale_settles.append(f"{record.job_id}: {lease} settled, yet {leases} hold it")
    last = next((lease for lease in leases if lease.lease_id == record.lease_id), None)
    completed_at = record.completed_at or 0
    if last is None or record.status not in (Status.COMPLETED, Status.DEADLETTER):
        found.wrong.append(f"{record.job_id} was never settled by one who held it: {record}")
    elif completed_at < last.start or (completed_at >= last.end and not last.is_open):
        found.stale_settles.append(f"{record.job_id}: {last} settled at {completed_at}")
    elif _settled_by(record) != last.lease_id:
        found.wrong.append(f"{record.job_id} has the outcome of another lease: {record}")


def _settled_by(record: JobRecord) -> str | None:
    """Return the lease that the worker which settled the job put into its result or error."""
    if record.status == Status.DEADLETTER:
        return record.last_error
    return str(Struct.FromString(record.result or b"")["lease"])
