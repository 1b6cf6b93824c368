"""Whole organizations, for who runs a server: list them, export one, delete it for good."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.json_format import MessageToDict

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.key_records import AuditKind
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.administration.copying import (
    PAGE_ROWS,
    Source,
    Target,
    opened_source,
    opened_target,
)
from spooled_pipelines.server.store.sqlite.upkeep.copying import tables
from spooled_pipelines.wire.batch_v1 import Tags
from spooled_pipelines.wire.well_known import Struct

if TYPE_CHECKING:
    import pyarrow as pa

_LIST = """
SELECT o.name, (SELECT count(*) FROM queues WHERE organization = o.id),
    (SELECT count(*) FROM batches WHERE organization = o.id AND NOT forgotten),
    coalesce(j.jobs, 0), (SELECT count(*) FROM keys WHERE organization = o.id)
FROM organizations o LEFT JOIN (
    SELECT organization, count(*) AS jobs FROM jobs GROUP BY organization
) j ON j.organization = o.id
ORDER BY o.name
"""
_ENDINGS = {2: "failed", 3: "given back", 4: "lost", 5: "process died"}
# What is exported of each table, in this order; all of them but jobs in JSON lines alone.
_EXPORTED: Mapping[str, tuple[str, ...]] = {
    "queues": ("name",),
    "keys": ("key_id", "name", "role", "queues", "created_at", "expires_at", "revoked_at"),
    "batches": ("batch_id", "name", "generation", "queue", "made_by", "created_at"),
    "jobs": (
        *("seq", "queue", "batch", "status", "priority", "retry_count", "max_retries"),
        *("created_at", "scheduled_at", "expires_at", "started_at", "completed_at"),
        *("worker_id", "last_error", "idempotency_key", "tags", "payload", "result"),
    ),
    "attempts": ("job", "number", "started_at", "ended_at", "ending", "worker_id", "error"),
}
_KINDS = {"queues": "queue", "keys": "key", "batches": "batch", "jobs": "job"}
# How rows of the organization are found, by a column that leads there.
_PATHS = {
    "organization": "organization = {0}",
    "queue": "queue IN (SELECT id FROM queues WHERE organization = {0})",
    "batch": "batch IN (SELECT id FROM batches WHERE organization = {0})",
    "job": "job IN (SELECT seq FROM jobs WHERE organization = {0})",
}
_AUDIT = (
    "INSERT INTO audit (at, times, kind, organization, key_id, key_name, peer, action, target, "
    "outcome) VALUES (?, 1, ?, ?, 'local', ?, 'the store itself', 'DeleteOrganization', ?, 'OK')"
)
_DELETED = "SELECT 1 FROM audit WHERE action = 'DeleteOrganization' AND target = ?"


class Organization(NamedTuple):
    """An organization, and how much it has."""

    name: str
    queues: int
    batches: int
    jobs: int
    keys: int


def organizations(url: str) -> list[Organization]:
    """Return the organizations of a store, which a server may have open."""
    with opened_source(url, is_stopped=False) as store:
        return [Organization(*row) for row in store.run(_LIST)]


def export(url: str, name: str, file: Path) -> int:
    """Write what an organization has to a new file, JSON lines or Parquet; return its jobs.

    A server may have the store open: what is written is what is there at one moment.
    """
    with opened_source(url, is_stopped=False) as store:
        number = _number(store, name)
        if file.suffix == ".parquet":
            jobs = (row for kind, row in _exported(store, number, ["jobs"]) if kind == "job")
            return _write_parquet(file, jobs)
        count = 0
        with file.open("x", encoding="utf-8") as out:
            for kind, row in _exported(store, number, list(_EXPORTED)):
                count += kind == "job"
                out.write(json.dumps({"kind": kind, **row}, ensure_ascii=False) + "\n")
        return count


def delete(url: str, name: str, progress: Callable[[str], None]) -> int:
    """Delete an organization with all it has from a stopped store; return how many jobs it had.

    All at once. If it is killed behind that, the same call writes the files without it.
    """
    with opened_source(url) as store:
        number = _number(store, name, is_deleted=bool(store.run(_DELETED, name)))
    with opened_target(url) as store:
        jobs = 0
        if number is not None:
            progress(f"deleting {name}")
            jobs = _delete(store, name, number)
        progress("writing the files without it")
        store.rewrite()
    return jobs


def _delete(store: Target, name: str, number: int) -> int:
    query = "SELECT count(*) FROM jobs WHERE organization = ?"
    jobs = int(store.run(query, number)[0][0])
    with store.transaction():
        store.keep_batch_numbers()
        # Those that lead to others go after them.
        order = {"jobs": 1, "batches": 2, "queues": 3}
        for table, columns in sorted(
            store.columns().items(), key=lambda each: order.get(each[0], 0)
        ):
            path = next((path for path in _PATHS if path in columns), None)
            if path is not None and table not in ("audit", "job_places"):
                which = _PATHS[path].format(number)
                store.run(f"DELETE FROM {table} WHERE {which}")  # noqa: S608
        store.run("DELETE FROM organizations WHERE id = ?", number)
        values = (int(AuditKind.ADMIN), name, getpass.getuser(), name)
        store.run(_AUDIT, SystemClock().now(), *values)
    return jobs


def _number(store: Source, name: str, *, is_deleted: bool = False) -> int | None:
    """Return the organization's number; None where it was deleted, if that may be."""
    found = store.run("SELECT id FROM organizations WHERE name = ?", name)
    if not found and is_deleted:
        return None
    if not found:
        raise StoreUnavailableError(
            f"there is no organization {name!r}; `spooled-pipelines organizations list` lists them"
        )
    return int(found[0][0])


def _exported(
    store: Source, number: int | None, names: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield kind and fields of each thing that the organization has."""
    known = {table.name: table for table in tables()}
    queues = dict(store.run("SELECT id, name FROM queues WHERE organization = ?", number))
    batches = dict(store.run("SELECT id, batch_id FROM batches WHERE organization = ?", number))
    for name in names:
        table = known[name]
        path = "organization" if "organization" in table.types else "job"
        which = _PATHS[path].format(number)
        for row in store.rows(table, 0, which):
            values = dict(zip(table.columns, row, strict=True))
            shown = {
                column: _shown(column, values[column], store.identity.id_prefix, queues, batches)
                for column in _EXPORTED[name]
            }
            if "seq" in shown:
                shown = {"id": shown.pop("seq"), **shown}
            yield _KINDS.get(name, "attempt"), shown


def _shown(
    column: str, value: Any, prefix: str, queues: Mapping[int, str], batches: Mapping[int, str]
) -> Any:
    """Return a value of a column as people read it."""
    if value is None:
        return None
    if column.endswith("_at"):
        return datetime.fromtimestamp(value / 1000, timezone.utc).isoformat(timespec="milliseconds")
    match column:
        case "seq" | "job":
            return ids.job_id(prefix, value)
        case "queue":
            return queues[value]
        case "batch":
            return batches.get(value)
        case "status":
            return Status.NAMES[value]
        case "ending":
            return _ENDINGS[value]
        case "payload" | "result":
            return MessageToDict(Struct.FromString(value))
        case "tags":
            return dict(Tags.FromString(value).tags)
        case "idempotency_key":
            return value.hex() if isinstance(value, bytes) else value
    return value


def _write_parquet(file: Path, jobs: Iterator[dict[str, Any]]) -> int:
    """Write jobs, their payloads, results and tags as JSON."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise StoreUnavailableError(
            "Parquet needs pyarrow; pip install pyarrow, or name a file that ends in .jsonl"
        ) from error
    numbers = ("priority", "retry_count", "max_retries")
    names = ["id", *_EXPORTED["jobs"][1:]]
    schema = pa.schema([(name, pa.int64() if name in numbers else pa.string()) for name in names])
    count = 0
    with file.open("xb") as out, pq.ParquetWriter(out, schema) as writer:
        while page := [*islice(jobs, PAGE_ROWS)]:
            count += len(page)
            writer.write_table(_table(page, schema))
    return count


def _table(page: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    rows = [
        {
            name: json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
            for name, value in row.items()
        }
        for row in page
    ]
    return pa.Table.from_pylist(rows, schema)
