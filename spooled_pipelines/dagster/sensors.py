"""A sensor that starts a run once a batch is settled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg

from spooled_pipelines.client.sync.client import SpooledClient
from spooled_pipelines.dagster.resource import SpooledResource
from spooled_pipelines.errors import NotFoundError

if TYPE_CHECKING:
    from spooled_pipelines.types import BatchStats

RunRequestFor: TypeAlias = "Callable[[BatchStats], dg.RunRequest | None]"
_FIRST_PAGE = 100


def settled_batch_sensor(
    name: str,
    queue_name: str,
    *,
    target: Any,
    run_request: RunRequestFor | None = None,
    resource_key: str = "spooled",
    minimum_interval_seconds: int = 30,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
) -> dg.SensorDefinition:
    """Return a sensor that requests one run for each batch of a queue that is settled.

    What is settled when the sensor looks for the first time is past, and starts nothing. A batch
    starts one run in each generation, however often its dead letters are retried; the run's tags
    ``spooled/batch_id`` and ``spooled/queue`` say which batch it is.

    Args:
        name: of the sensor.
        queue_name: whose batches.
        target: what to run: a job, assets, or an asset selection.
        run_request: makes the request from the batch's statistics, such as one with a
            `partition_key`; its run key and tags are set. None from it: no run for this batch.
        resource_key: of the `SpooledResource`.
        minimum_interval_seconds: between two looks.
        default_status: whether it runs as soon as it is deployed.
    """

    @dg.sensor(
        name=name,
        target=target,
        required_resource_keys={resource_key},
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
    )
    def settled(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        resource: SpooledResource = getattr(context.resources, resource_key)
        cursor = _Cursor(context.cursor)
        with resource.get_client() as client:
            done = list(cursor.settled_since(client, queue_name))
        requests = [made for stats in done if (made := _request(stats, run_request)) is not None]
        return dg.SensorResult(
            run_requests=requests,
            cursor=cursor.dump(),
            skip_reason=None
            if requests
            else dg.SkipReason(f"{len(cursor.open)} batches of {queue_name} are not settled"),
        )

    return settled


class _Cursor:
    """Which batches were seen: all up to a time, of which some are still open."""

    def __init__(self, text: str | None) -> None:
        kept: dict[str, Any] = {} if text is None else json.loads(text)
        self._first = text is None
        self._since: str = kept.get("since", "")
        # Those of the very last moment, which may have had others in it.
        self._latest = set(kept.get("latest", ()))
        self.open: list[str] = list(kept.get("open", ()))

    def dump(self) -> str:
        return json.dumps({"since": self._since, "latest": sorted(self._latest), "open": self.open})

    def settled_since(self, client: SpooledClient, queue_name: str) -> Iterator[BatchStats]:
        """Yield what has settled since the last look, and remember what is open."""
        watched, self.open = self.open, []
        found = [*_stats(client, watched), *reversed(self._new(client, queue_name))]
        # One that was watched and is started over is new, too.
        for stats in {stats.batch_id: stats for stats in found}.values():
            if not stats.settled:
                self.open.append(stats.batch_id)
            elif not self._first:
                yield stats

    def _new(self, client: SpooledClient, queue_name: str) -> list[BatchStats]:
        """Return the batches that were made since, the newest first."""
        limit = _FIRST_PAGE
        while True:
            page = client.batches(queue_name, limit=limit)
            if len(page) < limit or _moment(page[-1].created_at) < self._since:
                break
            limit *= 4
        # The newest one may have been started over since: another generation, made later.
        new = [
            stats
            for stats in page
            if (moment := _moment(stats.created_at)) > self._since
            or (moment == self._since and stats.batch_id not in self._latest)
        ]
        if new:
            newest = _moment(new[0].created_at)
            self._latest = self._latest if newest == self._since else set()
            self._latest |= {s.batch_id for s in new if _moment(s.created_at) == newest}
            self._since = newest
        return new


def _stats(client: SpooledClient, batch_ids: list[str]) -> list[BatchStats]:
    """Return the statistics of these batches, without those that the server has forgotten."""
    if not batch_ids:
        return []
    try:
        return client.batch_stats(batch_ids)
    except NotFoundError:
        half = len(batch_ids) // 2
        return _stats(client, batch_ids[:half]) + _stats(client, batch_ids[half:]) if half else []


def _moment(created_at: datetime | None) -> str:
    return "" if created_at is None else created_at.isoformat(timespec="microseconds")


def _request(stats: BatchStats, run_request: RunRequestFor | None) -> dg.RunRequest | None:
    made = dg.RunRequest() if run_request is None else run_request(stats)
    if made is None:
        return None
    ours = {"spooled/batch_id": stats.batch_id, "spooled/queue": stats.queue_name}
    return made.with_replaced_attrs(
        run_key=f"{stats.batch_id}/{stats.generation}", tags={**made.tags, **ours}
    )
