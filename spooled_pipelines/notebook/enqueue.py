"""`bulk_enqueue`: what will happen, a bar while it does, and what became of it."""

from __future__ import annotations

from typing import Any

from spooled_pipelines import SpooledClient
from spooled_pipelines.batch.plan import BatchPlan
from spooled_pipelines.notebook import frontend
from spooled_pipelines.notebook.connection import client_for
from spooled_pipelines.notebook.plan import check_confirmed, plan_card
from spooled_pipelines.notebook.progress import move_to, progress_bar
from spooled_pipelines.notebook.summary import Enqueued


class EnqueueInterrupted(KeyboardInterrupt):
    """Somebody interrupted the kernel; the message says what is there and how to go on."""

    def _render_traceback_(self) -> list[str]:
        return [f"Interrupted: {self}"]


def bulk_enqueue(
    df: Any,
    queue_name: str,
    *,
    client: SpooledClient | None = None,
    address: str | None = None,
    api_key: str | None = None,
    key: str | list[str] | None = None,
    name: str | None = None,
    confirm: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Enqueued:
    """Make each row of a table one job; run again, the same rows make no second job.

    Shows first what it will do, then a bar, and gives back a summary.

    Args:
        df: a DataFrame (pandas, polars, …), an Arrow table, or the path of a file.
        queue_name: the queue that workers take the jobs from.
        client: a connection to use; else `address` and `api_key`, else SPOOLED_GRPC_ADDRESS and
            SPOOLED_API_KEY, else the file ./spooled.db, with no server to start.
        key: the column or columns that tell rows apart; the whole row if not given.
        name: what people call this batch; the same name is the same batch.
        confirm: True says yes to what is asked for: more than 100 000 new jobs, or any on a
            server that is not on this machine.
        quiet: True leaves out what will happen and the bar, for calls in a loop.
        options: as `SpooledClient.enqueue_batch` takes them: payload, priority, on_rejected, …

    Returns:
        A summary that shows itself in a notebook; it holds the batch and the client.

    Raises:
        ConfirmationNeededError: nothing was sent, since `confirm` is needed.
        SpooledError: nothing was sent, or not all of it, and the message says what to do.
    """
    note = ""
    if client is None:
        client, note = client_for(address, api_key)
    sending = _Sending(
        client,
        queue_name,
        note,
        confirm=confirm,
        quiet=quiet,
        retries=options.get("on_rerun") == "retry_failed",
    )
    try:
        batch = client.enqueue_batch(
            df,
            queue_name,
            key=key,
            name=name,
            on_plan=sending.planned,
            progress=sending.at,
            **options,
        )
    except KeyboardInterrupt:
        raise EnqueueInterrupted(sending.broken_off()) from None
    finally:
        sending.close()
    return Enqueued(batch, client, note, ledger=options.get("ledger"))


class _Sending:
    """What is seen of one call while it runs."""

    def __init__(
        self,
        client: SpooledClient,
        queue_name: str,
        note: str,
        *,
        confirm: bool,
        quiet: bool,
        retries: bool,
    ) -> None:
        self._settings = client.settings
        self._queue_name = queue_name
        self._note = note
        self._confirm = confirm
        self._quiet = quiet
        self._retries = retries
        self._bar: Any = None
        self._sent = 0
        self._rows: int | None = None

    def planned(self, plan: BatchPlan) -> None:
        if not self._quiet:
            frontend.show(plan_card(plan, self._settings, self._note))
        retries = self._retries and plan.there != 0
        check_confirmed(plan, self._settings, confirm=self._confirm, retries=retries)
        self._rows = plan.rows - plan.rejected
        if not self._quiet:
            self._bar = progress_bar(self._rows, f"enqueue to {self._queue_name}", " rows")

    def at(self, sent: int, total: int) -> None:
        self._sent = sent
        if self._bar is not None:
            move_to(self._bar, sent, total)

    def broken_off(self) -> str:
        if self._rows is None:
            return "nothing was sent yet. Run the same cell again to begin anew."
        return (
            f"{self._sent:,} of {self._rows:,} rows were acknowledged, and they stay. Run the same "
            "cell again to go on from there: no row becomes a job twice."
        )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
