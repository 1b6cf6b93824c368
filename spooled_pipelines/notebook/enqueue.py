"""`bulk_enqueue`: a DataFrame becomes jobs, with a bar while it does and a summary after."""

from __future__ import annotations

from typing import Any

from spooled_pipelines import SpooledClient
from spooled_pipelines.notebook.connection import client_for
from spooled_pipelines.notebook.progress import move_to, progress_bar
from spooled_pipelines.notebook.summary import Enqueued


def bulk_enqueue(
    df: Any,
    queue_name: str,
    *,
    client: SpooledClient | None = None,
    address: str | None = None,
    api_key: str | None = None,
    key: str | list[str] | None = None,
    name: str | None = None,
    **options: Any,
) -> Enqueued:
    """Make each row of a table one job; run again, the same rows make no second job.

    Args:
        df: a DataFrame (pandas, polars, …), an Arrow table, or the path of a file.
        queue_name: the queue that workers take the jobs from.
        client: a connection to use; else `address` and `api_key`, else SPOOLED_GRPC_ADDRESS and
            SPOOLED_API_KEY, else the file ./spooled.db, with no server to start.
        key: the column or columns that tell rows apart; the whole row if not given.
        name: what people call this batch; the same name is the same batch.
        options: as `SpooledClient.enqueue_batch` takes them: payload, priority, on_rejected, …

    Returns:
        A summary that shows itself in a notebook; it holds the batch and the client.

    Raises:
        SpooledError: nothing was sent, or not all of it, and the message says what to do.
    """
    note = ""
    if client is None:
        client, note = client_for(address, api_key)
    bar = progress_bar(None, f"enqueue to {queue_name}", " rows")
    try:
        batch = client.enqueue_batch(
            df,
            queue_name,
            key=key,
            name=name,
            progress=lambda done, total: move_to(bar, done, total),
            **options,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "interrupted: what was sent stays; run the same cell again to go on where it stopped"
        ) from None
    finally:
        bar.close()
    return Enqueued(batch, client, note)
