"""What every engine does: tell its tasks of the server, let each add a part, seal the batch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spooled_pipelines.client.connect import connect
from spooled_pipelines.client.settings import KEY_VARIABLE
from spooled_pipelines.errors import AuthenticationError, InvalidArgumentError
from spooled_pipelines.rpc.settings import TLS

if TYPE_CHECKING:
    from spooled_pipelines.batch.sync.batch import Batch
    from spooled_pipelines.batch.sync.open_batch import OpenBatch
    from spooled_pipelines.client import SpooledClient
    from spooled_pipelines.rpc.settings import ConnectionSettings

# API keys that Dask's plugin has put into this process, by tokens that tasks may show.
WORKER_API_KEYS: dict[str, str] = {}


@dataclass(frozen=True)
class ServerRef:
    """Where a task finds the server. It travels with the task, and so it holds no secret.

    Attributes:
        address: as of `connect`, but never None.
        tls: as of `connect`; certificates by their paths, which every executor must have.
        api_key_file: a file that holds the key, on every executor.
        own_key_first: prefer a key in the executor's environment to the one from the driver.
    """

    address: str
    tls: TLS | bool | None = None
    api_key_file: str | None = None
    own_key_first: bool = True


def server_ref(settings: ConnectionSettings, api_key_file: str | Path | None = None) -> ServerRef:
    """Return what the tasks need to know of the server that the driver's client talks to.

    Raises:
        InvalidArgumentError: the private key of a client certificate is given as PEM, which would
            travel with every task.
    """
    tls = settings.tls
    if isinstance(tls, TLS) and tls.inline_client_key is not None:
        raise InvalidArgumentError(
            "TLS: client_key is given as PEM, and would travel with every task: give the path of a "
            "file that every executor has"
        )
    if settings.file is not None:
        # Each process finds the key beside the file.
        return ServerRef(settings.name)
    return ServerRef(
        settings.address,
        tls,
        None if api_key_file is None else str(api_key_file),
        own_key_first=settings.api_key_source == KEY_VARIABLE,
    )


def api_key_for_workers(server: ServerRef, settings: ConnectionSettings) -> str | None:
    """Return the driver's key, if the engine has to pass it on; None if its tasks have one."""
    tasks_have_one = settings.file is not None or server.api_key_file is not None
    return None if tasks_have_one else settings.api_key


def add_part(
    server: ServerRef,
    opened: Mapping[str, Any],
    part_id: str | int,
    data: Any,
    api_key: str | None,
    key_hint: str,
) -> dict[str, Any]:
    """Add a task's partition to the batch; return `AddedPart.to_dict()`.

    Args:
        server: from `server_ref`.
        opened: from `OpenBatch.to_dict`.
        part_id: the same for the same partition in every try.
        data: the partition's rows.
        api_key: the driver's key, if the engine passed it on.
        key_hint: what to do if there is no key.

    Raises:
        AuthenticationError: this executor has no key.
        SpooledError: as `OpenBatch.add`.
    """
    with _connect(server, api_key, key_hint) as client:
        return client.open_batch(opened).add(part_id, data).to_dict()


def seal(batch: OpenBatch, added: Iterable[Mapping[str, Any]]) -> Batch:
    """Seal the batch with exactly the parts that the engine's tasks have added.

    Raises:
        InvalidArgumentError: there are none, so the frame had no rows.
        PartsMissingError: the server does not know one of them.
    """
    parts = list(added)
    if not parts:
        raise InvalidArgumentError(
            f"the frame has no rows: batch {batch.name!r} on queue {batch.queue_name!r} was "
            "opened, and is not sealed"
        )
    return batch.seal([str(part["part_id"]) for part in parts], added=parts)


def read_key(path: str) -> str:
    """Return the key in a file.

    Raises:
        InvalidArgumentError: the file cannot be read.
    """
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise InvalidArgumentError(
            f"api_key_file: {path} cannot be read on this machine: {error.strerror}"
        ) from error


def _connect(server: ServerRef, api_key: str | None, key_hint: str) -> SpooledClient:
    if server.api_key_file is not None:
        api_key = read_key(server.api_key_file)
    elif server.own_key_first and os.environ.get(KEY_VARIABLE):
        api_key = None
    try:
        return connect(server.address, api_key=api_key, tls=server.tls)
    except AuthenticationError as error:
        raise AuthenticationError(f"{error.message}. This is an executor: {key_hint}") from error
