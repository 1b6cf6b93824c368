"""Dask: the rows of a DataFrame or a Bag become jobs, one part of the batch for each partition."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spooled_pipelines._lazy import needs_extra
from spooled_pipelines.engines._parts import (
    WORKER_API_KEYS,
    ServerRef,
    add_part,
    api_key_for_workers,
    seal,
    server_ref,
)

with needs_extra("dask"):
    import pandas as pd
    from dask import base
    from dask.delayed import delayed

if TYPE_CHECKING:
    from spooled_pipelines.batch.options.row_options import OnRerun
    from spooled_pipelines.batch.sync.batch import Batch
    from spooled_pipelines.client import SpooledClient

_KEY_HINT = "set SPOOLED_API_KEY where the Dask workers start, or give api_key_file"


def enqueue(
    frame: Any,
    queue_name: str,
    *,
    client: SpooledClient,
    name: str,
    api_key_file: str | Path | None = None,
    on_rerun: OnRerun = "resume",
    **options: Any,
) -> Batch:
    """Enqueue each row of a Dask DataFrame, or each dict of a Bag, and return the sealed batch.

    The workers send their partitions themselves, so they must be able to reach the server at the
    client's address. A task that Dask runs again doubles nothing. Give `key=` wherever the rows
    could be in other partitions the next time: without it, a row's identity includes its partition.

    Args:
        frame: a ``dask.dataframe.DataFrame``, or a ``dask.bag.Bag`` of dicts. Computed once.
        queue_name: where the jobs go.
        client: of the server, not of Dask. Its key goes to the workers of a cluster once, with a
            plugin, and is in no task and no log; on the way it is as safe as Dask's own
            connections (``tls://``). A worker that has SPOOLED_API_KEY of its own uses that, unless
            the client was given its key as an argument.
        name: of the batch; the same name and rows are the same jobs.
        api_key_file: a file that holds the key, on every worker.
        on_rerun: as in `enqueue_batch`.
        **options: the options of `enqueue_batch` for a row, such as `key`,
            `payload`, `priority` or `index`.

    Raises:
        RowsRejectedError, LossyValueError, InvalidArgumentError: as of `enqueue_batch`, from the
            partition's worker. The batch is not sealed, and the same call resumes where it ended.
        SpooledError: the server cannot be reached.
    """
    server = server_ref(client.settings, api_key_file)
    opened = client.open_batch(name, queue_name, on_rerun=on_rerun, **options)
    open_batch = opened.to_dict()
    with _key_on_workers(api_key_for_workers(server, client.settings)) as token:
        add = delayed(_add_partition, pure=False)
        parts = [
            add(server, open_batch, number, partition, token)
            for number, partition in enumerate(frame.to_delayed())
        ]
        added: tuple[Any, ...] = base.compute(*parts)  # type: ignore[no-untyped-call]
    return seal(opened, (part for part in added if part is not None))


def results(batch: Batch, npartitions: int = 1) -> Any:
    """Return the result of every job as a ``dask.dataframe``; this process reads them."""
    import dask.dataframe as dd

    frame = batch.results().to_pandas()
    return dd.from_pandas(frame, npartitions=npartitions)  # type: ignore[no-untyped-call]


def _add_partition(
    server: ServerRef, opened: dict[str, Any], number: int, partition: Any, token: str | None
) -> dict[str, Any] | None:
    if isinstance(partition, pd.DataFrame):
        rows: Any = partition if len(partition) else None
    else:
        rest = iter(partition)
        first = next(rest, None)
        rows = None if first is None else chain([first], rest)
    if rows is None:
        return None
    api_key = None if token is None else WORKER_API_KEYS.get(token)
    return add_part(server, opened, number, rows, api_key, _KEY_HINT)


@contextmanager
def _key_on_workers(api_key: str | None) -> Iterator[str | None]:
    """Keep the key in every process that may run our tasks, and yield the token to find it by."""
    if api_key is None:
        yield None
        return
    token = secrets.token_hex(8)
    cluster = _cluster()
    WORKER_API_KEYS[token] = api_key
    try:
        if cluster is not None:
            from spooled_pipelines.engines.dask_plugin import ApiKeyPlugin

            cluster.register_plugin(ApiKeyPlugin(token, api_key), name=token)
        yield token
    finally:
        WORKER_API_KEYS.pop(token, None)
        if cluster is not None:
            cluster.unregister_worker_plugin(token)


def _cluster() -> Any:
    """Return the cluster that Dask would use; None for its schedulers within this machine."""
    try:
        from distributed import get_client
    except ImportError:
        return None
    try:
        return get_client()
    except ValueError:
        return None
