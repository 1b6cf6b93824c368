"""A batch in a run: wait for it, read its results, and describe it as asset metadata."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import quote

import dagster as dg

from spooled_pipelines.dagster.schema import column_schema
from spooled_pipelines.errors import SpooledError
from spooled_pipelines.orchestration.progress_log import ProgressLogger

if TYPE_CHECKING:
    import pandas as pd

    from spooled_pipelines.batch.outcome.verdict import OnBreach
    from spooled_pipelines.client import SpooledClient
    from spooled_pipelines.dagster.run_names import RunContext
    from spooled_pipelines.types import BatchStats


class _Server(Protocol):
    """What a batch needs of `SpooledResource`."""

    page: str | None

    def get_client(self) -> SpooledClient: ...


class RunBatch:
    """A batch that an op or asset enqueued or was given.

    Attributes:
        record: what `Batch.to_dict` gave; an op returns it to hand the batch to another op, which
            makes it a batch with `SpooledResource.batch`.
    """

    def __init__(
        self,
        resource: _Server,
        context: RunContext,
        record: dict[str, Any],
        schema: dg.TableSchema | None = None,
        cancel_on_termination: bool = True,
    ) -> None:
        self.record = record
        self._resource = resource
        self._context = context
        self._schema = schema
        self._cancel_on_termination = cancel_on_termination

    def __repr__(self) -> str:
        return (
            f"<RunBatch {self.id} {self.record.get('name')!r} on {self.record.get('queue_name')!r}>"
        )

    @property
    def id(self) -> str:
        """The batch's id."""
        return str(self.record["batch_id"])

    @property
    def url(self) -> str | None:
        """The address of the batch's status page; None if the resource names no page."""
        page = self._resource.page
        return f"{page.rstrip('/')}/batches/{quote(self.id)}" if page else None

    def wait(
        self,
        timeout: float | None = None,
        max_failed: float = 0,
        on_breach: OnBreach = "raise",
        allow_expired: bool = False,
    ) -> BatchStats:
        """Return once every job is settled and not too many failed.

        The run's event log gets a line for each tenth that is done.

        Args:
            timeout: seconds; None: as long as it takes.
            max_failed: how many jobs may fail or be cancelled: a number, or a share (a float).
            on_breach: ``"stop"`` also cancels what has not started, once more failed than that.
            allow_expired: whether jobs that did not start in time do not count as failed.

        Raises:
            BatchFailedError: more failed than that.
            BatchTimeoutError: not settled in time; the message names what holds it back.
        """
        progress = ProgressLogger(self._context.log)
        meanwhile = cancelled_if_terminated(
            self._resource, self._context, self.id, self._cancel_on_termination
        )
        with self._resource.get_client() as client, meanwhile:
            batch = client.batch(self.record)
            return batch.wait(timeout, max_failed, progress.batch, on_breach, allow_expired)

    def stats(self) -> BatchStats:
        """Return the statistics of the batch."""
        with self._resource.get_client() as client:
            return client.batch(self.record).stats()

    def results(self) -> pd.DataFrame:
        """Return what became of every job as a pandas DataFrame, a line for each."""
        with self._resource.get_client() as client:
            table = client.batch(self.record).results()
        return cast("pd.DataFrame", table.to_pandas())

    def metadata(
        self, stats: BatchStats | None = None, table: object = None
    ) -> dict[str, dg.MetadataValue[Any]]:
        """Return counts, errors, link and columns, for a `MaterializeResult`.

        Args:
            stats: what `wait` returned; None: asked for.
            table: the asset's own table, whose columns are shown; None: the table enqueued.
        """
        stats = self.stats() if stats is None else stats
        told = ("rows", "created", "duplicates", "changed", "replaced", "rejected")
        counts = {n: self.record.get(n) for n in told}
        counts |= {n: getattr(stats, n) for n in ("completed", "deadletter", "cancelled", "open")}
        found: dict[str, dg.MetadataValue[Any]] = {
            "spooled/batch": dg.MetadataValue.url(self.url)
            if self.url
            else dg.MetadataValue.text(self.id),
            "spooled/queue": dg.MetadataValue.text(stats.queue_name),
            **{
                f"spooled/{name}": dg.MetadataValue.int(count)
                for name, count in counts.items()
                if count is not None
            },
        }
        if stats.top_errors:
            errors = [
                dg.TableRecord({"error": error.partition("\n")[0], "jobs": count})
                for error, count in stats.top_errors
            ]
            found["spooled/errors"] = dg.MetadataValue.table(errors)
        schema = self._schema if table is None else column_schema(table)
        if schema is not None:
            found["dagster/column_schema"] = dg.MetadataValue.table_schema(schema)
        return found


@contextmanager
def cancelled_if_terminated(
    resource: _Server, context: RunContext, batch_id: str, wanted: bool
) -> Generator[None]:
    """Cancel what the batch has not started if Dagster terminates the run meanwhile."""
    try:
        yield
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        if wanted:
            _cancel(resource, context, batch_id)
        raise


def _cancel(resource: _Server, context: RunContext, batch_id: str) -> None:
    try:
        with resource.get_client() as client:
            done = client.batch(batch_id).cancel()
    except SpooledError as error:
        context.log.warning("The jobs could not be cancelled: %s", error.message)
        return
    context.log.info(
        "The run was terminated. Batch %s: %d jobs cancelled, %d running, %d done",
        *(batch_id, done.cancelled, done.running, done.done),
    )
