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


@dataclass(frozen=True)
class Server:
    """Where a task finds the server. It travels with the task, and so it holds no secret.

    Attributes:
        address: as of `connect`, but always said.
        tls: as of `connect`; certificates by their paths alone, which every executor has to have.
        api_key_file: a file that holds the key, on every executor.
        own_key_first: a key in the executor's environment is preferred to the one it is brought.
    """

    address: str
    tls: TLS | bool | None = None
    api_key_file: str | None = None
    own_key_first: bool = True


def server_of(settings: ConnectionSettings, api_key_file: str | Path | None = None) -> Server:
    """What the tasks are told of the server that the driver's client talks to.

    Raises:
        InvalidArgumentError: the private key of a client certificate is given as bytes, which
            would travel with every task.
    """
    tls = settings.tls
    key = tls.client_key if isinstance(tls, TLS) else None
    if isinstance(key, bytes) or (isinstance(key, str) and key.lstrip().startswith("-----BEGIN")):
        raise InvalidArgumentError(
            "TLS: client_key is given as bytes, and would travel with every task: give the path of "
            "a file that every executor has"
        )
    if settings.file is not None:
        # Each process finds the key beside the file.
        return Server(settings.name)
    return Server(
        settings.address,
        tls,
        None if api_key_file is None else str(api_key_file),
        own_key_first=settings.api_key_source == KEY_VARIABLE,
    )


def key_to_bring(server: Server, settings: ConnectionSettings) -> str | None:
    """The driver's key, if it is for us to bring it to the tasks; None: they have one."""
    beside = settings.file is not None or server.api_key_file is not None
    return None if beside else settings.api_key


def add_part(
    server: Server,
    opened: Mapping[str, Any],
    part_id: str | int,
    data: Any,
    brought: str | None,
    how_to_bring_a_key: str,
) -> dict[str, Any]:
    """What a task does with its partition; returns `AddedPart.to_dict()`.

    Args:
        server: from `server_of`.
        opened: from `OpenBatch.to_dict`.
        part_id: the same for the same partition, whichever try it is.
        data: its rows.
        brought: the key that the engine brought here, if it did.
        how_to_bring_a_key: what to do about there being none.

    Raises:
        AuthenticationError: this executor has no key.
        SpooledError: as `OpenBatch.add`.
    """
    with _client(server, brought, how_to_bring_a_key) as client:
        return client.open_batch(opened).add(part_id, data).to_dict()


def seal(batch: OpenBatch, added: Iterable[Mapping[str, Any]]) -> Batch:
    """Seal the batch with exactly the parts that the engine's tasks say they added.

    Raises:
        InvalidArgumentError: there is none, so that the frame had no rows.
        PartsMissingError: the server does not know one of them.
    """
    parts = list(added)
    if not parts:
        raise InvalidArgumentError(
            f"the frame has no rows: batch {batch.name!r} on queue {batch.queue_name!r} was "
            "opened, and is not sealed"
        )
    return batch.seal([str(part["part_id"]) for part in parts], added=parts)


def _client(server: Server, brought: str | None, how_to_bring_a_key: str) -> SpooledClient:
    if server.api_key_file is not None:
        key: str | None = read_key(server.api_key_file)
    elif server.own_key_first and os.environ.get(KEY_VARIABLE):
        key = None
    else:
        key = brought
    try:
        return connect(server.address, api_key=key, tls=server.tls)
    except AuthenticationError as error:
        raise AuthenticationError(
            f"{error.message}. This is an executor: {how_to_bring_a_key}"
        ) from error


def read_key(path: str) -> str:
    """The key in a file.

    Raises:
        InvalidArgumentError: it cannot be read.
    """
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise InvalidArgumentError(
            f"api_key_file: {path} cannot be read on this machine: {error.strerror}"
        ) from error
