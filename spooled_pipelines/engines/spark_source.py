"""Spark's own way in and out: ``df.write.format("spooled")``, ``spark.read.format("spooled")``.

Needs Spark 4, and once in a session ``spark.dataSource.register(SpooledDataSource)``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from spooled_pipelines._lazy import needs_extra
from spooled_pipelines.client import SpooledClient
from spooled_pipelines.engines._parts import add_part, read_key, seal, server_ref
from spooled_pipelines.engines.spark import KEY_HINT, as_reader, part_of_this_task
from spooled_pipelines.errors import InvalidArgumentError

with needs_extra("spark"):
    from pyspark.sql.datasource import (
        DataSource,
        DataSourceArrowWriter,
        DataSourceReader,
        InputPartition,
        WriterCommitMessage,
    )
    from pyspark.sql.types import StructType

_CONNECTION = frozenset({"address", "api_key_file"})
_CHOICES = frozenset({"on_lossy", "on_rejected", "on_changed"})
_WRITE = _CONNECTION | _CHOICES | {"queue", "name", "key", "payload", "priority"}
_READ = _CONNECTION | {"batch"}
_LISTS = frozenset({"key", "payload"})
# The columns of any batch's results; other columns are fields of its jobs' results.
_RESULTS = "row bigint, job_id string, status string, error string, result string"


class SpooledDataSource(DataSource):
    """Writes each row as a job, and reads the results of a batch's jobs.

    Options of both: `address` (else SPOOLED_GRPC_ADDRESS) and `api_key_file` (else
    SPOOLED_API_KEY), on the driver and every executor. There is no option for the key itself,
    since options are shown in plans.

    Writing: `queue` and `name`, and of `enqueue_batch` `key` and `payload` (columns with commas
    between them), `priority`, `on_lossy`, `on_rejected` and `on_changed`. Mode "append" resumes the
    batch of that name, "overwrite" starts it over (``on_rerun="fresh"``).

    Reading: `batch`, an id. Without a schema the columns are row, job_id, status, error and
    result, which is JSON; a schema may name fields of the results instead. One task reads them, in
    flat memory.
    """

    @classmethod
    def name(cls) -> str:
        return "spooled"

    def schema(self) -> str:
        return _RESULTS

    def writer(self, schema: StructType, overwrite: bool) -> DataSourceArrowWriter:  # noqa: ARG002
        options = _checked(self.options, _WRITE, ("queue", "name"))
        return SpooledWriter(options, overwrite=overwrite)

    def reader(self, schema: StructType) -> DataSourceReader:
        return SpooledReader(_checked(self.options, _READ, ("batch",)), schema)


@dataclass
class _Added(WriterCommitMessage):
    part: dict[str, Any] | None


class SpooledWriter(DataSourceArrowWriter):
    """Made on the driver, which opens the batch; sent to the tasks, which add their parts."""

    def __init__(self, options: Mapping[str, str], *, overwrite: bool) -> None:
        self._options = dict(options)
        with _client(options) as client:
            self._server = server_ref(client.settings, options.get("api_key_file"))
            opened = client.open_batch(
                options["name"],
                options["queue"],
                on_rerun="fresh" if overwrite else "resume",
                **_row_options(options),
            )
            self._opened = opened.to_dict()

    def write(self, iterator: Iterator[pa.RecordBatch]) -> WriterCommitMessage:
        data = as_reader(iterator)
        if data is None:
            return _Added(None)
        # No key from the driver: a writer cannot see the driver's session.
        part_id = part_of_this_task()
        return _Added(add_part(self._server, self._opened, part_id, data, None, KEY_HINT))

    def commit(self, messages: list[WriterCommitMessage | None]) -> None:
        added = [one.part for one in messages if isinstance(one, _Added) and one.part]
        with _client(self._options) as client:
            seal(client.open_batch(self._opened), added)

    def abort(self, messages: list[WriterCommitMessage | None]) -> None:
        """Leave the batch open: its jobs may run, and the same write resumes from there."""


class SpooledReader(DataSourceReader):
    """Reads a batch's results in flat memory."""

    def __init__(self, options: Mapping[str, str], schema: StructType) -> None:
        self._options = dict(options)
        self._schema = schema

    def partitions(self) -> list[InputPartition]:
        # Each page says where the next one begins.
        return [InputPartition(0)]

    def read(self, partition: InputPartition) -> Iterator[tuple[Any, ...]]:  # noqa: ARG002
        names = self._schema.fieldNames()
        with _client(self._options) as client:
            results = client.batch(self._options["batch"]).results_reader()
            fields = [name for name in results.schema.names if name not in _OURS]
            for record_batch in results:
                for row in record_batch.to_pylist():
                    result = {name: row[name] for name in fields if row[name] is not None}
                    row["result"] = json.dumps(result) if result else None
                    yield tuple(row.get(name) for name in names)


_OURS = frozenset({"row", "job_id", "status", "error"})


def _client(options: Mapping[str, str]) -> SpooledClient:
    path = options.get("api_key_file")
    # Not `connect`: without a server, every machine would keep its rows in a file of its own.
    return SpooledClient(options.get("address"), api_key=None if path is None else read_key(path))


def _row_options(options: Mapping[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name in _WRITE - _CONNECTION - {"queue", "name"}:
        value = options.get(name)
        if value is None:
            continue
        if name in _LISTS:
            made[name] = [column.strip() for column in value.split(",")]
        elif name == "priority" and value.lstrip("-").isdigit():
            made[name] = int(value)
        else:
            made[name] = value
    return made


def _checked(
    options: Mapping[str, str], known: frozenset[str], needed: tuple[str, ...]
) -> dict[str, str]:
    """Return the options by our names: Spark keeps names in whatever case they were written."""
    found = {name.lower(): value for name, value in options.items()}
    if {"api_key", "apikey"} & found.keys():
        raise InvalidArgumentError(
            "there is no option for the key itself, since options are shown in plans: "
            + KEY_HINT.replace("give api_key_file", 'option("api_key_file", PATH)')
        )
    unknown = sorted(found.keys() - known - {"path"})
    if unknown:
        raise InvalidArgumentError(
            f"there is no option {unknown[0]!r}; there are {', '.join(sorted(known))}"
        )
    missing = [name for name in needed if not found.get(name)]
    if missing:
        raise InvalidArgumentError(f"option({missing[0]!r}, ...) is missing")
    return found
