# Generated from spooled_pipelines/batch/aio/service.py by `make generate`: do not edit.
"""The batches of one server: which backend it needs, asked once."""

from __future__ import annotations

from spooled_pipelines.batch.sync.backend import BatchBackend
from spooled_pipelines.batch.sync.extension_backend import ExtensionBackend
from spooled_pipelines.batch.sync.v1_backend import V1Backend
from spooled_pipelines.errors import ServerError, SpooledError
from spooled_pipelines.rpc.sync.connection import Connection
from spooled_pipelines.wire import batch_v1, methods

# What cannot be asked in this time is asked of the server when rows go there.
_ASK_SECONDS = 5.0


class BatchService:
    """What all batches of one client share.

    Attributes:
        connection: the server.
        rows_per_second: the rate of the last upload, from which that of the next is estimated.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.rows_per_second: float | None = None
        self._extension = ExtensionBackend(connection)
        self._v1 = V1Backend(connection)
        self._has_extension: bool | None = None
        self._key_names: dict[str, str] = {}

    def backend(self, extension: bool | None = None) -> BatchBackend:
        """Return the backend for this server; `extension`: what is known of it already."""
        if extension is None:
            extension = self.has_extension()
        return self._extension if extension else self._v1

    def has_extension(self) -> bool:
        """Return whether the server has the batch extension: asked once, then known."""
        setting = self.connection.settings.batch_extension
        if setting != "auto":
            return setting == "on"
        if self._has_extension is None:
            method, request = methods.BATCH["GetBatchStats"], batch_v1.GetBatchStatsRequest()
            try:
                self.connection.unary(method, request, repeatable=True)
            except ServerError as error:
                if error.code != "UNIMPLEMENTED":
                    raise
                self._has_extension = False
            else:
                self._has_extension = True
        return self._has_extension

    def key_name(self, queue_name: str) -> str:
        """Return the name that the keys of a queue's rows are made of, another if it was renamed.

        Where it cannot be asked it is the queue's: a server refuses rows with keys of another.
        """
        if self._has_extension is False or self.connection.settings.batch_extension == "off":
            return queue_name
        if queue_name not in self._key_names:
            request = batch_v1.FindKeysRequest(queue_name=queue_name)
            method = methods.BATCH["FindKeys"]
            try:
                answer = self.connection.unary(
                    method, request, timeout=_ASK_SECONDS, repeatable=False
                )
            except SpooledError:
                return queue_name
            self._key_names[queue_name] = answer.key_name or queue_name
        return self._key_names[queue_name]

    def forget_key_names(self) -> None:
        """Ask again next time: a queue was renamed."""
        self._key_names.clear()
