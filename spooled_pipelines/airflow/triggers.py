"""BatchTrigger: waits in the triggerer's event loop until a batch is done.

One event loop serves up to a thousand triggers, so nothing here may hold it up: gRPC is loaded in
a thread, and neither pandas nor pyarrow ever. The trigger only reads, since for a while two
triggerers may run the same one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from spooled_pipelines.airflow.hook import DEFAULT_CONNECTION, SpooledHook
from spooled_pipelines.airflow.outcome import Progress, ended_event, error_event, stats_dict
from spooled_pipelines.errors import BatchFailedError, BatchTimeoutError, SpooledError


class BatchTrigger(BaseTrigger):
    """Fires once: when the batch is settled, has failed for certain, or the deadline is there.

    All of this is stored in Airflow's database as it is, so the connection goes in by its id.

    Args:
        batch: what `Batch.to_dict` gives.
        spooled_conn_id: the Airflow connection, of type ``spooled``.
        max_failed: how many jobs may fail, as a count or as a fraction of all.
        deadline: when to give up, in seconds since the epoch; None means never. Airflow itself
            does not watch a deferred task's time-outs closely enough.
    """

    def __init__(
        self,
        batch: dict[str, Any],
        spooled_conn_id: str = DEFAULT_CONNECTION,
        max_failed: float = 0,
        deadline: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        self.batch = batch
        self.spooled_conn_id = spooled_conn_id
        self.max_failed = max_failed
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class's path, and the arguments to make this trigger again elsewhere."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "batch": self.batch,
                "spooled_conn_id": self.spooled_conn_id,
                "max_failed": self.max_failed,
                "deadline": self.deadline,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch the batch, through any time that the server is away, and yield one event."""
        yield TriggerEvent(await self._wait())  # type: ignore[no-untyped-call]  # the same

    async def _wait(self) -> dict[str, Any]:
        progress = Progress(self.log.info)
        try:
            async with await SpooledHook(self.spooled_conn_id).aget_conn() as client:
                stats = await client.batch(self.batch).wait(
                    timeout=self._seconds_left(),
                    max_failed=self.max_failed,
                    on_progress=progress,
                )
        except BatchFailedError as error:
            return ended_event("failed", error)
        except BatchTimeoutError as error:
            return ended_event("timeout", error)
        except SpooledError as error:
            return error_event(error)
        return {"status": "settled", "stats": stats_dict(stats)}

    def _seconds_left(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - time.time())
