"""`bulk_enqueue`: enqueue a table with a plan before and a progress bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spooled_pipelines import Batch, SpooledClient
from spooled_pipelines.batch.display.progress import ProgressBar
from spooled_pipelines.batch.options.row_options import EnqueueOptions, shows_options
from spooled_pipelines.batch.plan import BatchPlan
from spooled_pipelines.errors import SpooledError
from spooled_pipelines.notebook import display
from spooled_pipelines.notebook.connection import client_for
from spooled_pipelines.notebook.enqueue_bar import EnqueueBar
from spooled_pipelines.notebook.plan import check_confirmed, plan_card

if TYPE_CHECKING:
    from typing_extensions import Unpack


class EnqueueInterrupted(KeyboardInterrupt):
    """The kernel was interrupted; the message says what was sent and how to resume."""

    def _render_traceback_(self) -> list[str]:
        return [f"Interrupted: {self}"]


@shows_options(EnqueueOptions)
def bulk_enqueue(
    df: Any,
    queue_name: str,
    *,
    client: SpooledClient | None = None,
    address: str | None = None,
    api_key: str | None = None,
    confirm: bool = False,
    quiet: bool = False,
    **options: Unpack[EnqueueOptions],
) -> Batch:
    """Make each row of a table a job; run again, the same rows make no second job.

    Show what the call will do, then a progress bar.

    Args:
        df: a DataFrame (pandas, polars, …), an Arrow table, or the path of a file.
        queue_name: the queue that workers take the jobs from.
        client: a connection to use.
        address: the server, if there is no `client`; else SPOOLED_GRPC_ADDRESS, else the file
            ./spooled.db, with no server to start.
        api_key: the key for `address`; else SPOOLED_API_KEY.
        confirm: True to enqueue more than 100,000 new jobs, or any on a server that is not on
            this machine.
        quiet: True to show neither plan nor bar, for calls in a loop.
        options: as `SpooledClient.enqueue_batch` takes them: key (the column or columns that
            identify a row; the whole row if not given), name (the same name is the same batch),
            payload, priority, on_rejected, on_changed, …

    Returns:
        The batch, which shows itself in a notebook and knows its client.

    Raises:
        ConfirmationNeededError: nothing was sent, because `confirm` is needed.
        SpooledError: nothing was sent, or not all of it, and the message says what to do.
    """
    note = ""
    if client is None:
        client, note = client_for(address, api_key)
    progress = _Progress(
        client,
        queue_name,
        note,
        confirm=confirm,
        quiet=quiet,
        retries=options.get("on_rerun") == "retry_failed",
        replaces=options.get("on_changed") == "replace",
    )
    try:
        return client.enqueue_batch(
            df,
            queue_name,
            on_plan=progress.show_plan,
            on_read=progress.read,
            progress=progress.update,
            **options,
        )
    except KeyboardInterrupt:
        raise EnqueueInterrupted(progress.interrupted()) from None
    except SpooledError as error:
        # The message says what is wrong; where in here that was found fills screens before it.
        raise error.with_traceback(None) from error.__cause__
    finally:
        progress.close()


class _Progress:
    """What a call shows while it runs: the plan, and a bar."""

    def __init__(
        self,
        client: SpooledClient,
        queue_name: str,
        note: str,
        *,
        confirm: bool,
        quiet: bool,
        retries: bool,
        replaces: bool,
    ) -> None:
        self._settings = client.settings
        self._queue_name = queue_name
        self._note = note
        self._confirm = confirm
        self._quiet = quiet
        self._retries = retries
        self._replaces = replaces
        self._bar: ProgressBar | EnqueueBar | None = None
        if not quiet and display.is_notebook():
            self._bar = EnqueueBar(queue_name)
        self._sent = 0
        self._rows: int | None = None

    def show_plan(self, plan: BatchPlan) -> None:
        if not self._quiet:
            display.show(plan_card(plan, self._settings, self._note))
        more = (self._retries and plan.duplicates != 0) or (self._replaces and plan.changed != 0)
        check_confirmed(plan, self._settings, confirm=self._confirm, more=more)
        self._rows = plan.rows - plan.rejected
        if isinstance(self._bar, EnqueueBar):
            self._bar.begin()
        elif not self._quiet:
            self._bar = ProgressBar(f"enqueue to {self._queue_name}", " rows")

    def read(self, rows: int) -> None:
        if isinstance(self._bar, EnqueueBar):
            self._bar.read(rows)

    def update(self, sent: int, total: int) -> None:
        self._sent = sent
        if self._bar is not None:
            self._bar.update(sent, total)

    def interrupted(self) -> str:
        if self._rows is None:
            return "nothing was sent yet. Run the same cell again to start over."
        return (
            f"{self._sent:,} of {self._rows:,} rows were acknowledged, and they stay. Run the same "
            "cell again to resume; no row is enqueued twice."
        )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
