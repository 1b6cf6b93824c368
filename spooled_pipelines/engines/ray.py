"""Ray: the rows of a Dataset become jobs, one part of the batch for each write task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from spooled_pipelines._lazy import needs_extra
from spooled_pipelines.engines._parts import add_part, api_key_for_workers, seal, server_ref

with needs_extra("ray"):
    import ray
    from ray.data import Datasink
    from ray.data.block import BlockAccessor

if TYPE_CHECKING:
    from ray.data import Dataset
    from ray.data._internal.execution.interfaces import TaskContext
    from ray.data.block import Block
    from ray.data.datasource import WriteResult
    from typing_extensions import Unpack

    from spooled_pipelines.batch.options.row_options import JobOptions, OnRerun
    from spooled_pipelines.batch.sync.batch import Batch
    from spooled_pipelines.client import SpooledClient

_KEY_HINT = "set SPOOLED_API_KEY where the Ray nodes start, or give api_key_file"


class SpooledDatasink(Datasink[dict[str, Any] | None]):
    """A sink for ``dataset.write_datasink(...)``: opens the batch, adds a part per task, seals it.

    Attributes:
        batch: the sealed batch, once everything is written; None until then, and if writing
            failed.
    """

    def __init__(
        self,
        queue_name: str,
        *,
        client: SpooledClient,
        name: str,
        api_key_file: str | Path | None = None,
        on_rerun: OnRerun = "resume",
        **options: Unpack[JobOptions],
    ) -> None:
        self.batch: Batch | None = None
        self._server = server_ref(client.settings, api_key_file)
        self._batch = client.open_batch(name, queue_name, on_rerun=on_rerun, **options)
        self._opened = self._batch.to_dict()
        key = api_key_for_workers(self._server, client.settings)
        # A reference: the key is in Ray's object store, and in no task.
        self._key = None if key is None else ray.put(key)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to the driver: tasks have no client of ours."""
        ours = ("batch", "_batch")
        return {name: value for name, value in vars(self).items() if name not in ours}

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> dict[str, Any] | None:
        """Add the rows of one task as one part."""
        batches = _record_batches(blocks)
        first = next(batches, None)
        if first is None:
            return None
        data = pa.RecordBatchReader.from_batches(first.schema, chain([first], batches))
        api_key = None if self._key is None else ray.get(self._key)
        return add_part(self._server, self._opened, ctx.task_idx, data, api_key, _KEY_HINT)

    def on_write_complete(self, write_result: WriteResult[dict[str, Any] | None]) -> None:
        """Seal the batch with the parts that were written."""
        self.batch = seal(self._batch, (one for one in write_result.write_returns if one))

    def sealed(self) -> Batch:
        """Return the batch; Ray does not report the end of a write without rows.

        Raises:
            InvalidArgumentError: the dataset had no rows.
        """
        return self.batch or seal(self._batch, ())


def enqueue(
    dataset: Dataset,
    queue_name: str,
    *,
    client: SpooledClient,
    name: str,
    api_key_file: str | Path | None = None,
    on_rerun: OnRerun = "resume",
    **options: Unpack[JobOptions],
) -> Batch:
    """Enqueue each row of a Ray Dataset, and return the sealed batch.

    The write tasks send their blocks themselves, so they must be able to reach the server at the
    client's address. A task that Ray runs again doubles nothing. Each run of Ray may cut the rows
    into other tasks: give `key=`, or else rows of a later run may be other jobs.

    Args:
        dataset: the Dataset. It is computed once.
        queue_name: where the jobs go.
        client: of the server. Its key goes to the tasks through Ray's object store: it is in no
            task and no log, but anybody who may read the cluster's objects may read it. A node that
            has SPOOLED_API_KEY of its own uses that, unless the client was given its key as an
            argument.
        name: of the batch; the same name and rows are the same jobs.
        api_key_file: a file that holds the key, on every node.
        on_rerun: as in `enqueue_batch`.
        **options: the options of `enqueue_batch` for a row, such as `key`,
            `payload` or `priority`.

    Raises:
        RayTaskError: a task failed for good; it is our own error too. The batch is not sealed, and
            the same call resumes where it ended.
        InvalidArgumentError: the dataset has no rows, or an argument is wrong.
        SpooledError: the driver cannot reach the server.
    """
    sink = SpooledDatasink(
        queue_name,
        client=client,
        name=name,
        api_key_file=api_key_file,
        on_rerun=on_rerun,
        **options,
    )
    dataset.write_datasink(sink)
    return sink.sealed()


def results(batch: Batch) -> Dataset:
    """Return the result of every job as a Dataset; this process reads them."""
    return ray.data.from_arrow(batch.results())


def _record_batches(blocks: Iterable[Block]) -> Iterator[pa.RecordBatch]:
    for block in blocks:
        yield from BlockAccessor.for_block(block).to_arrow().to_batches()
