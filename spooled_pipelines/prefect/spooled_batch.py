"""A batch in a flow: a small value that tasks hand on, and that gives the results."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from pydantic import BaseModel, PrivateAttr

from spooled_pipelines.batch.outcome.verdict import OnBreach
from spooled_pipelines.client.aio.client import AsyncSpooledClient
from spooled_pipelines.client.sync.client import SpooledClient
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.prefect.credentials import SpooledCredentials, load_credentials
from spooled_pipelines.types import BatchStats, CancelResult

if TYPE_CHECKING:
    import pandas as pd


class SpooledBatch(BaseModel):
    """A batch that a task enqueued. It may be returned, persisted, and passed to other tasks.

    It holds no secret: where it was stored and is loaded again, it finds the key by the name of
    the block, or in the environment if it was enqueued without one.

    Attributes:
        record: what `Batch.to_dict` gave; of another program's batch only its ``batch_id``.
        block: the name of the `SpooledCredentials` block; None: the environment says where the
            server is.
        anonymous: whether the credentials were made in code and never saved, so that only the
            process that made them knows them.
    """

    record: dict[str, Any]
    block: str | None = None
    anonymous: bool = False
    _credentials: SpooledCredentials | None = PrivateAttr(None)

    @classmethod
    def of(
        cls, record: SpooledBatch | dict[str, Any] | str, credentials: SpooledCredentials | None
    ) -> SpooledBatch:
        """Return the batch of a record or an id, on the server of these credentials."""
        if isinstance(record, SpooledBatch):
            return record.using(credentials)
        if isinstance(record, str):
            record = {"batch_id": record}
        name = None if credentials is None else credentials._block_document_name  # noqa: SLF001
        batch = cls(record=record, block=name, anonymous=credentials is not None and name is None)
        return batch.using(credentials)

    def using(self, credentials: SpooledCredentials | None) -> SpooledBatch:
        """Use these credentials from now on, unless they are None; return the batch."""
        if credentials is not None:
            self._credentials = credentials
        return self

    def __getstate__(self) -> dict[Any, Any]:
        # A pickled result lies in somebody's bucket.
        return {**super().__getstate__(), "__pydantic_private__": {"_credentials": None}}

    @property
    def id(self) -> str:
        """The batch's id."""
        return str(self.record["batch_id"])

    @property
    def queue_name(self) -> str:
        """The queue; empty where only the batch's id is known."""
        return str(self.record.get("queue_name") or "")

    @property
    def name(self) -> str:
        """The batch's name; empty where only its id is known."""
        return str(self.record.get("name") or "")

    @property
    def url(self) -> str | None:
        """The address of the batch's status page; None if no loaded block names one."""
        page = None if self._credentials is None else self._credentials.page
        return f"{page.rstrip('/')}/batches/{quote(self.id)}" if page else None

    def stats(self) -> BatchStats:
        """Return the statistics of the batch."""
        with self.client() as client:
            return client.batch(self.record).stats()

    def wait(
        self,
        timeout: float | None = None,
        max_failed: float = 0,
        on_breach: OnBreach = "raise",
        allow_expired: bool = False,
    ) -> BatchStats:
        """Return once every job is settled and not too many failed; as `Batch.wait`."""
        with self.client() as client:
            return client.batch(self.record).wait(
                timeout, max_failed, None, on_breach, allow_expired
            )

    async def wait_async(
        self,
        timeout: float | None = None,
        max_failed: float = 0,
        on_breach: OnBreach = "raise",
        allow_expired: bool = False,
    ) -> BatchStats:
        """Return once every job is settled and not too many failed; no thread is held meanwhile."""
        async with self.async_client() as client:
            return await client.batch(self.record).wait(
                timeout, max_failed, None, on_breach, allow_expired
            )

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> pd.DataFrame:
        """Wait, and return what became of every job as a pandas DataFrame, a line for each.

        Args:
            timeout: seconds; None: as long as it takes.
            raise_on_failure: whether a failed job raises; the DataFrame has its error otherwise.

        Raises:
            BatchFailedError: a job failed.
            BatchTimeoutError: not settled in time.
        """
        with self.client() as client:
            batch = client.batch(self.record)
            batch.wait(timeout, 0 if raise_on_failure else 1.0)
            return cast("pd.DataFrame", batch.results().to_pandas())

    async def aresult(
        self, timeout: float | None = None, raise_on_failure: bool = True
    ) -> pd.DataFrame:
        """Wait in asyncio, and return the same as `result`."""
        async with self.async_client() as client:
            batch = client.batch(self.record)
            await batch.wait(timeout, 0 if raise_on_failure else 1.0)
            return cast("pd.DataFrame", (await batch.results()).to_pandas())

    def cancel(self) -> CancelResult:
        """Cancel what has not started."""
        with self.client() as client:
            return client.batch(self.record).cancel()

    @contextmanager
    def client(self) -> Generator[SpooledClient]:
        """Connect to the batch's server; `client.batch(batch.record)` can do the rest."""
        credentials = self._found(None)
        if credentials is None and self.block is not None:
            credentials = self._found(load_credentials(self.block))
        with SpooledClient() if credentials is None else credentials.get_client() as client:
            yield client

    @asynccontextmanager
    async def async_client(self) -> AsyncGenerator[AsyncSpooledClient]:
        """Connect to the batch's server in asyncio."""
        credentials = self._found(None)
        if credentials is None and self.block is not None:
            credentials = self._found(await SpooledCredentials.aload(self.block))
        client = AsyncSpooledClient() if credentials is None else credentials.get_async_client()
        async with client:
            yield client

    def _found(self, loaded: SpooledCredentials | None) -> SpooledCredentials | None:
        self.using(loaded)
        if self._credentials is None and self.anonymous:
            raise InvalidArgumentError(
                f"batch {self.id} was enqueued with credentials that were never saved, in another "
                "process: save them as a block (credentials.save('production')), or say "
                "batch.using(credentials)"
            )
        return self._credentials
