"""What a task enqueues, as values: a batch, a part of one, or nothing if the table is empty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from spooled_pipelines.airflow.arguments.on_empty import OnEmpty, report_empty
from spooled_pipelines.batch.display.batch_card import changed_text
from spooled_pipelines.errors import EmptyTableError, InvalidArgumentError
from spooled_pipelines.orchestration.progress_log import ProgressLogger
from spooled_pipelines.orchestration.run_batches import (
    continue_started_over,
    maker_of_attempt,
    retry_cancelled,
    run_batch_id,
    run_batch_name,
    warn_of_another_maker,
)
from spooled_pipelines.wire import limits

if TYPE_CHECKING:
    import pyarrow as pa
    from airflow.sdk import Context

    from spooled_pipelines.batch.options.row_options import OnRerun, PartOptions
    from spooled_pipelines.client.sync.client import SpooledClient


_COUNTS = ("rows", "created", "duplicates", "changed", "replaced", "rejected")


class Enqueued(NamedTuple):
    """The result of an enqueue.

    Attributes:
        batch: what the task returns.
        ledger: what became of each row; None where that is not known.
    """

    batch: dict[str, Any]
    ledger: pa.RecordBatchReader | None


@dataclass(frozen=True)
class EnqueueRequest:
    """What a task enqueues, once its templates are rendered.

    Attributes:
        queue_name, name: of the batch.
        is_named: whether a DAG's author chose the name, so that the batch may be that of others.
        is_attempt: whether the client says which attempt makes the batch: a try and its retries.
        part: the id of the part that the rows are; None: they are the whole batch.
        on_empty, on_rerun: as of `EnqueueBatchOperator`.
        row_options: how a row becomes a job.
        log: the task's log.
    """

    queue_name: str
    name: str
    is_named: bool
    is_attempt: bool
    part: str | int | None
    on_empty: OnEmpty
    on_rerun: OnRerun
    row_options: PartOptions
    log: Any

    def send(self, client: SpooledClient, source: Mapping[str, Any]) -> Enqueued:
        """Enqueue the rows of the source, which are arguments of `SpooledClient.enqueue_batch`.

        Raises:
            InvalidArgumentError: the data or an argument is wrong.
            AirflowSkipException, AirflowFailException: there are no rows, and `on_empty` says so.
        """
        on_rerun = self.on_rerun
        if self.is_attempt:
            number = run_batch_id(client, self.queue_name, self.name)
            on_rerun = continue_started_over(client, number, on_rerun)
        if on_rerun == "retry_failed" and not client.batch_backend().supports_retry:
            # The default must not keep a plain server, which has no such thing, from being used.
            self.log.info("This server keeps no batches: its dead letters cannot be retried")
            on_rerun = "resume"
        if self.is_named and client.batch_backend().keeps_batches:
            self._look_at_batch(client)
        send = self._send_batch if self.part is None else self._send_part
        enqueued = send(client, source, on_rerun)
        batch = enqueued.batch
        cancelled = 0
        if on_rerun == "retry_failed":
            cancelled = retry_cancelled(client, batch["batch_id"])
            batch["retried"] += cancelled
        key = self.row_options.get("key")
        if key is not None:
            batch["key"] = [key] if isinstance(key, str) else list(key)
        self.log.info(
            "Batch %s on queue %s: %d rows, %d jobs created, %d duplicates, %d rejected, "
            "%d retried (%d of them had been cancelled)",
            *(batch[n] for n in ("batch_id", "queue_name", "rows", "created", "duplicates")),
            *(batch[n] for n in ("rejected", "retried")),
            cancelled,
        )
        if batch["changed"]:
            told = changed_text(batch["changed"], batch["replaced"])
            self.log.warning("Duplicates whose payload differs from their job's: %s", told)
        return enqueued

    def _look_at_batch(self, client: SpooledClient) -> None:
        """Warn of a batch that another DAG has made, and refuse a new part of a complete one."""
        number = run_batch_id(client, self.queue_name, self.name)
        stats = warn_of_another_maker(client, number, self.log)
        if stats is None or self.part is None or not stats.settled:
            return
        parts = client.open_batch(self.name, self.queue_name).parts()
        if str(self.part) not in {part.part_id for part in parts}:
            raise InvalidArgumentError(
                f"batch {number}, {self.name!r}, is complete: it was sealed and its jobs are "
                f"settled, and it has no part {str(self.part)!r}. Leave name= out, or give the "
                "parts of this run another name."
            )

    def _send_batch(
        self, client: SpooledClient, source: Mapping[str, Any], on_rerun: OnRerun
    ) -> Enqueued:
        try:
            batch = client.enqueue_batch(
                queue_name=self.queue_name,
                name=self.name,
                on_rerun=on_rerun,
                progress=ProgressLogger(self.log).sent,
                **source,
                **self.row_options,
            )
        except EmptyTableError as error:
            report_empty(self.on_empty, error.message, self.log)
            batch = client.open_batch(self.name, self.queue_name).seal()
            nothing = dict.fromkeys(_COUNTS, 0)
            return Enqueued({**batch.to_dict(), **nothing}, batch.ledger_reader())
        return Enqueued(batch.to_dict(), batch.ledger_reader())

    def _send_part(
        self, client: SpooledClient, source: Mapping[str, Any], on_rerun: OnRerun
    ) -> Enqueued:
        part_id = str(self.part)
        opened = client.open_batch(self.name, self.queue_name, on_rerun=on_rerun)
        added = opened.add(
            part_id, progress=ProgressLogger(self.log).sent, **source, **self.row_options
        )
        if not added.rows:
            report_empty(self.on_empty, f"part {part_id} has no rows.", self.log)
        part, open_batch = added.to_dict(), opened.to_dict()
        batch = {
            **{n: part[n] for n in ("batch_id", *_COUNTS)},
            **{n: open_batch[n] for n in ("queue_name", "name", "generation", "extension")},
            "retried": opened.retried,
            "part": part,
            "opened": open_batch,
        }
        return Enqueued(batch, added.ledger_reader())


def check_part(on_rerun: str, wait_for_completion: bool) -> None:
    """Raise InvalidArgumentError where an argument does not go together with a part."""
    if on_rerun == "fresh":
        raise InvalidArgumentError(
            'on_rerun="fresh" starts a whole batch over, and a part is not all of it: use '
            '"resume" or "retry_failed"'
        )
    if wait_for_completion:
        raise InvalidArgumentError(
            "wait_for_completion=True is about a whole batch: let a StreamJobsSensor wait for all "
            "parts"
        )


def made_by(context: Context, retries: int | None = None) -> str:
    """Return which task makes a batch, as the batch keeps it.

    Args:
        context: the task's.
        retries: the task's; where they are given, and Airflow says which tries they belong to, the
            name is that of this try and its retries, as Clear ends them.
    """
    ti = context["ti"]
    maker = f"airflow/{ti.dag_id}/{ti.task_id}"[: limits.BATCH_NAME_MAX]
    last_try = getattr(ti, "max_tries", None)
    if retries is None or last_try is None:
        return maker
    return maker_of_attempt(maker, context["run_id"], ti.map_index, last_try - retries)


def batch_name(context: Context, *, whole: bool = True) -> str:
    """Return a name made of dag_id, task_id, run_id and map_index, never of the try.

    So a retry, a Clear and a backfill that reprocesses the run find their batch again. DAG and
    task ids have no slash in them, so two task instances never share a name.

    Args:
        context: the task's.
        whole: whether the task's rows are all of the batch; else it is one of all map indexes.
    """
    ti = context["ti"]
    index = (ti.map_index,) if whole else ()
    return run_batch_name("airflow", ti.dag_id, ti.task_id, context["run_id"], *index)
