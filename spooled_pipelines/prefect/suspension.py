"""Suspending a flow while its batch runs, resuming it once the batch is settled, and cancelling.

A suspended flow run holds no process. Prefect's server cannot see ours, so somebody has to look:
`resume_settled_flows`, a flow that is deployed on a schedule, works on a self-hosted server as well
as on Prefect Cloud.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.flow_runs import resume_flow_run, suspend_flow_run

from spooled_pipelines.batch.outcome.verdict import Rule, breached, check_max_failed, failed_error
from spooled_pipelines.client.sync.client import SpooledClient
from spooled_pipelines.errors import NotFoundError, SpooledError
from spooled_pipelines.prefect import artifacts
from spooled_pipelines.prefect.credentials import load_credentials
from spooled_pipelines.prefect.run_names import suspensions
from spooled_pipelines.prefect.spooled_batch import SpooledBatch
from spooled_pipelines.types import BatchStats

_FLOW_RUNS_PER_PAGE = 200


def suspend_until_settled(
    batch: SpooledBatch,
    *,
    max_failed: float = 0,
    timeout_seconds: int = 7 * 86_400,
    allow_expired: bool = False,
) -> BatchStats:
    """Suspend the flow run until the batch is settled; return its statistics, once it is.

    Call it in the flow itself, after `enqueue_batch`. The flow's process ends here; when the run is
    resumed, the flow runs from its beginning, finds its batch, and comes to this line again. The
    flow has to be deployed, as for `prefect.suspend_flow_run`.

    Args:
        batch: what `enqueue_batch` returned; its credentials have to be a saved block, or come
            from the environment.
        max_failed: how many jobs may fail or be cancelled: a number, or a share (a float).
        timeout_seconds: how long the run may be suspended; Prefect fails it then.
        allow_expired: whether jobs that did not start in time do not count as failed.

    Raises:
        BatchFailedError: it is settled, and more failed than that.
    """
    check_max_failed(max_failed)
    stats = batch.stats()
    if breached(stats, max_failed, allow_expired):
        artifacts.card(batch, stats)
        raise failed_error(stats, max_failed)
    if not stats.settled:
        named = {artifacts.MAX_FAILED: repr(max_failed)}
        if allow_expired:
            named[artifacts.ALLOW_EXPIRED] = "yes"
        artifacts.ProgressArtifact("Suspended for", batch.id, batch.block, **named)
        key = f"spooled/{batch.id}/{len(suspensions(batch.id))}"
        # Prefect's annotations leave `_sync` out.
        suspend_flow_run(timeout=timeout_seconds, key=key, _sync=True)  # type: ignore[call-overload]
        # Prefect goes on here if the run was resumed before it could be suspended.
        stats = batch.stats()
    artifacts.card(batch, stats)
    return stats


@flow(name="resume-settled-flows", log_prints=False)
def resume_settled_flows() -> int:
    """Resume every flow run that `suspend_until_settled` has suspended and whose batch is settled.

    Deploy it on a schedule, such as every minute: ``resume_settled_flows.serve("resume-settled",
    interval=60)``. Returns how many runs it resumed. A batch that failed for certain counts as
    settled: its flow run is to say so.
    """
    log = get_run_logger()
    resumed = 0
    for flow_run in _suspended():
        for batch_id, block, rule in _batches_of(flow_run.id):
            if rule is None:
                continue
            try:
                with _client(block) as client:
                    stats = client.batch(batch_id).stats()
            except (SpooledError, ValueError) as error:
                log.warning("%s: batch %s: %s", flow_run.name, batch_id, error)
                continue
            if stats.settled or breached(stats, rule.max_failed, rule.allow_expired):
                resume_flow_run(flow_run.id, _sync=True)  # type: ignore[call-arg]
                log.info("%s: batch %s is settled: resumed", flow_run.name, batch_id)
                resumed += 1
                break
    return resumed


def cancel_batches(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ARG001
    """Cancel what the flow run's batches have not started: ``@flow(on_cancellation=[...])``.

    Subflows have hooks of their own. Prefect runs hooks where the flow ran; a flow that was called
    as a function, without a deployment, has nobody that would.
    """
    seen: set[str] = set()
    for batch_id, block, _ in _batches_of(flow_run.id):
        if batch_id in seen:
            continue
        seen.add(batch_id)
        try:
            with _client(block) as client:
                done = client.batch(batch_id).cancel()
        except NotFoundError:
            # Nothing was sent yet.
            continue
        get_run_logger().info(
            "The flow run was cancelled. Batch %s: %d jobs cancelled, %d running, %d done",
            *(batch_id, done.cancelled, done.running, done.done),
        )


def _suspended() -> Iterator[Any]:
    found = FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Suspended"])))
    with get_client(sync_client=True) as client:
        offset = 0
        while True:
            page = client.read_flow_runs(
                flow_run_filter=found, limit=_FLOW_RUNS_PER_PAGE, offset=offset
            )
            yield from page
            if len(page) < _FLOW_RUNS_PER_PAGE:
                return
            offset += len(page)


def _batches_of(flow_run_id: UUID) -> Iterator[tuple[str, str | None, Rule | None]]:
    """Yield the batches of a run: id, block, and the verdict it is suspended for, newest first."""
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        for artifact in client.read_artifacts(artifact_filter=of_run):
            named = artifact.metadata_ or {}
            if artifact.type == "progress" and artifacts.BATCH_ID in named:
                max_failed = named.get(artifacts.MAX_FAILED)
                allow_expired = artifacts.ALLOW_EXPIRED in named
                yield (
                    named[artifacts.BATCH_ID],
                    named.get(artifacts.BLOCK),
                    None
                    if max_failed is None
                    else Rule(_number(max_failed), allow_expired=allow_expired),
                )


def _number(text: str) -> float:
    return float(text) if "." in text or "e" in text else int(text)


def _client(block: str | None) -> SpooledClient:
    return SpooledClient() if block is None else load_credentials(block).get_client()
