"""The SQL files of a store: statements by name, migrations by number.

A statement begins with a line `-- name: NAME`, goes on with a sentence on what it does, and ends
where the next one begins. What stands in braces is a list of columns that is written once:

- `{job_columns}`: `rows.JOB_COLUMNS`;
- `{locked_columns}`: those of `counter_deltas.LockedJob` and its state, but for the number;
- `{participant}`, `{weight}`: who takes turns with the job, and the weight of its batch;
- `{round}`, `{quantum}`: of `turns.py`; `{turns_again}`: see PostgreSQL's `release_due`;
- `{lease_first}`: see PostgreSQL's `claim_jobs`;
- `{is_capped}`: the job's limit key, or whether its queue has so many in flight at most;
- `{held}`: `core.jobs.rules.HELD`; `{place_bits}`: `ids.PLACE_BITS`;
- `{is_expired}`: `JobState.is_expired`;
- `{counts T}`: the counters of table T, `{sums T}`: their sums, `{zeros T}`: 0 for NULL;
- `{limits T}`: the columns of `queue_limits` but for the queue.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import NamedTuple

from spooled_pipelines.server.core.ids import PLACE_BITS
from spooled_pipelines.server.core.jobs.records import Counts
from spooled_pipelines.server.core.jobs.rules import HELD, JobState
from spooled_pipelines.server.core.jobs.turns import ALONE, QUANTUM, ROUND
from spooled_pipelines.server.core.limits.queue_limits import QueueLimiter
from spooled_pipelines.server.store.rows import JOB_COLUMNS

_MARK = "-- name: "
_COMPATIBLE_FROM = re.compile(r"^-- compatible-from: (\d+)$", re.MULTILINE)
_CONCURRENTLY = "-- concurrently\n"
_COMMENT = re.compile(r"--.*")
_IS_CAPPED = (
    "coalesce(jobs.limit_key, CASE WHEN EXISTS (SELECT 1 FROM queue_limits q"
    " WHERE q.queue = jobs.queue AND q.max_in_flight IS NOT NULL) THEN 1 ELSE 0 END)"
)
_PARTICIPANT = f"coalesce(jobs.fair_key, jobs.batch, {ALONE})"
_WEIGHT = "coalesce((SELECT b.weight FROM batches b WHERE b.id = jobs.batch), 1)"
_FRAGMENT = re.compile(r"\{(\w+)(?: (\w+))?\}")
_LOCKED = ("organization", "queue", "batch", "linked")
_LIMITS = QueueLimiter._fields
# Of `found` (seq, queue, priority, participant, length, ...), each its place in its participant's
# turns: `firsts[place] + before`. By numbered places, since a join of the two has no index.
_TURNS_AGAIN = """
numbered AS (
    SELECT f.*, (sum(length) OVER so_far)::int8 - length AS before,
        (dense_rank() OVER (ORDER BY queue, priority, participant))::int4 AS place
    FROM found f WINDOW so_far AS (PARTITION BY queue, priority, participant ORDER BY seq)
), taken AS (
    INSERT INTO turns AS t (queue, priority, participant, released, following, taken)
    SELECT n.queue, n.priority, n.participant, true, sum(n.length)::int8 + {round} * coalesce((
        SELECT max(r.round) FROM rounds_served r
        WHERE r.queue = n.queue AND r.priority = n.priority
    ), 0), sum(n.length)::int8
    FROM found n GROUP BY n.queue, n.priority, n.participant
    ORDER BY n.queue, n.priority, n.participant
    ON CONFLICT (participant, queue, priority, released) DO UPDATE
    SET following = greatest(t.following + excluded.taken, excluded.following),
        taken = excluded.taken
    RETURNING queue, priority, participant, following - taken AS first
), began AS (
    SELECT array_agg(first ORDER BY queue, priority, participant) AS firsts FROM taken
)"""

# Of `first`, what fits into one answer.
_LEASE_FIRST = """
placed AS (
    SELECT seq, priority, round, row_number() OVER so_far AS place,
        CASE WHEN min(run_alone) OVER so_far = max(run_alone) OVER so_far
            AND (max(run_alone) OVER so_far = 0
                OR row_number() OVER so_far <= max(run_alone) OVER so_far)
        THEN sum(size) OVER so_far END AS total
    FROM first WINDOW so_far AS (ORDER BY priority DESC, round, seq)
), served AS (
    INSERT INTO rounds_served AS s (queue, priority, shard, round)
    SELECT %(queue)s, p.priority, pg_backend_pid() %% 16, max(p.round) FROM placed p
    WHERE p.place = 1 OR p.total <= %(budget)s GROUP BY p.priority
    HAVING max(p.round) > coalesce((SELECT max(round) FROM rounds_served
        WHERE queue = %(queue)s AND priority = p.priority), 0)
    ORDER BY p.priority
    ON CONFLICT (queue, priority, shard) DO UPDATE SET round = greatest(s.round, excluded.round)
)
UPDATE jobs SET status = 3, worker_id = %(worker)s,
    lease_id = coalesce(%(lease)s, encode(uuid_send(gen_random_uuid()), 'hex')),
    started_at = %(now)s, lease_expires_at = %(expiry)s, deliveries = deliveries + 1
FROM placed WHERE jobs.seq = placed.seq
    AND (placed.place = 1 OR placed.total <= %(budget)s)
RETURNING placed.place, jobs.batch, jobs.linked, placed.priority, placed.round,
    jobs.seq, {job_columns}, '',
    jobs.result, jobs.payload, jobs.tags"""


def _fragment(match: re.Match[str]) -> str:
    name, table = match.groups()
    prefix = f"{table}." if table else ""
    match name:
        case "job_columns":
            columns = [f"jobs.{column}" for column in JOB_COLUMNS]
        case "locked_columns":
            first = [f"jobs.{column}" for column in _LOCKED]
            columns = [*first, _IS_CAPPED, *(f"jobs.{column}" for column in JobState._fields)]
        case "is_capped":
            columns = [_IS_CAPPED]
        case "participant":
            columns = [_PARTICIPANT]
        case "weight":
            columns = [_WEIGHT]
        case "round":
            columns = [str(ROUND)]
        case "place_bits":
            columns = [str(PLACE_BITS)]
        case "held":
            columns = [str(HELD)]
        case "is_expired":
            late = f"{prefix}completed_at >= {prefix}expires_at"
            columns = [f"({prefix}status = 7 AND {prefix}expires_at IS NOT NULL AND {late})"]
        case "quantum":
            columns = [str(QUANTUM)]
        case "turns_again":
            columns = [_TURNS_AGAIN]
        case "lease_first":
            columns = [_LEASE_FIRST]
        case "counts":
            columns = [f"{prefix}{column}" for column in Counts._fields]
        case "sums":
            columns = [
                f"coalesce(sum({prefix}{column}), 0)::int8 AS {column}" for column in Counts._fields
            ]
        case "zeros":
            columns = [f"coalesce({prefix}{column}, 0)" for column in Counts._fields]
        case "limits":
            columns = [f"{prefix}{column}" for column in _LIMITS]
        case _:
            raise ValueError(f"there is no list of columns {match[0]}")
    return ", ".join(columns)


def load_statements(package: str) -> Mapping[str, str]:
    """Return the statements of the package's queries.sql by name."""
    text = (resources.files(package) / "queries.sql").read_text(encoding="utf-8")
    # Twice: a fragment may have others in it.
    text = _FRAGMENT.sub(_fragment, _FRAGMENT.sub(_fragment, text))
    statements: dict[str, str] = {}
    for part in text.split(_MARK)[1:]:
        name, _, body = part.partition("\n")
        lines = [line for line in body.splitlines() if not line.startswith("--")]
        statements[name.strip()] = "\n".join(lines).strip()
    return MappingProxyType(statements)


class Migration(NamedTuple):
    """One step of a schema.

    A server may use a schema that is newer than it knows if no migration asks for more:
    `compatible_from` is the oldest version whose servers work on the schema after this step. What
    only adds something leaves it as it was, and may come with the release that needs it. What
    takes something away raises it, and comes one release after the last that used it.
    """

    name: str
    statements: str
    compatible_from: int
    # Run statement by statement, outside a transaction: CREATE INDEX CONCURRENTLY.
    is_concurrent: bool

    @property
    def number(self) -> int:
        """Its place among the others."""
        return int(self.name[:4])

    @property
    def checksum(self) -> str:
        """What tells it from another one of this name; comments and blanks do not count."""
        text = _COMMENT.sub("", self.statements)
        return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:16]


def load_migrations(package: str) -> list[Migration]:
    """Return the package's migrations, in order.

    A file NUMBER_name.sql may begin with `-- compatible-from: NUMBER` (else it is the number
    itself) and `-- concurrently`.
    """
    folder = resources.files(package) / "migrations"
    found = []
    for file in folder.iterdir():
        if file.name.endswith(".sql"):
            name, text = file.name.removesuffix(".sql"), file.read_text(encoding="utf-8")
            compatible = _COMPATIBLE_FROM.search(text)
            compatible_from = int(name[:4] if compatible is None else compatible[1])
            found.append(Migration(name, text, compatible_from, _CONCURRENTLY in text))
    return sorted(found)
