"""Suspending a flow while its batch runs, resuming it once the batch is settled, and cancelling.

A suspended flow run holds no process. Prefect's server cannot see ours, so somebody has to look:
`resume_settled_flows`, a flow that is deployed on a schedule, works on a self-hosted server as well
as on Prefect Cloud.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import ArtifactSort
from prefect.flow_runs import resume_flow_run, suspend_flow_run
from prefect.logging.loggers import flow_run_logger

from spooled_pipelines.batch.outcome.verdict import Rule, breached, check_max_failed, failed_error
from spooled_pipelines.client.sync.client import SpooledClient
from spooled_pipelines.errors import InvalidArgumentError, NotFoundError, SpooledError
from spooled_pipelines.prefect import artifacts
from spooled_pipelines.prefect.credentials import load_credentials
from spooled_pipelines.prefect.run_names import suspensions
from spooled_pipelines.prefect.spooled_batch import SpooledBatch
from spooled_pipelines.types import BatchStats

T = TypeVar("T")
# As many as Prefect's server gives at most.
_PER_PAGE = 200


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
        InvalidArgumentError: its credentials are not a saved block.
    """
    check_max_failed(max_failed)
    if batch.anonymous:
        raise InvalidArgumentError(
            f"batch {batch.id} was enqueued with credentials that were never saved, so nothing "
            "could see when it is settled: save them as a block (credentials.save('production'))"
        )
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
        # The newest is the one that it waits for; the others are those that it has waited for.
        for batch_id, block, rule in islice(_suspensions_of(flow_run.id), 1):
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
    return resumed


def cancel_batches(flow: Any, flow_run: FlowRun, state: Any) -> None:  # noqa: ARG001
    """Cancel what the flow run's batches have not started: ``@flow(on_cancellation=[...])``.

    Subflows have hooks of their own. Prefect runs hooks where the flow ran; a flow that was called
    as a function, without a deployment, has nobody that would.
    """
    # Prefect's runner calls this outside of the run.
    log = flow_run_logger(flow_run, flow)
    for batch_id, named in {n[artifacts.BATCH_ID]: n for n in _batches_of(flow_run.id)}.items():
        if artifacts.UNSAVED in named:
            log.warning(
                "The flow run was cancelled. The jobs of batch %s stay: its credentials were never "
                "saved as a block",
                batch_id,
            )
            continue
        try:
            with _client(named.get(artifacts.BLOCK)) as client:
                done = client.batch(batch_id).cancel()
        except NotFoundError:
            # Nothing was sent yet.
            continue
        except (SpooledError, ValueError) as error:
            log.warning("The jobs of batch %s could not be cancelled: %s", batch_id, error)
            continue
        log.info(
            "The flow run was cancelled. Batch %s: %d jobs cancelled, %d running, %d done",
            *(batch_id, done.cancelled, done.running, done.done),
        )


def _suspended() -> Iterator[Any]:
    found = FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Suspended"])))
    with get_client(sync_client=True) as client:
        yield from _paged(partial(client.read_flow_runs, flow_run_filter=found))


def _paged(read: Callable[..., list[T]]) -> Iterator[T]:
    """Yield all that a call of Prefect's gives page by page."""
    offset = 0
    while True:
        page = read(limit=_PER_PAGE, offset=offset)
        yield from page
        if len(page) < _PER_PAGE:
            return
        offset += len(page)


def _suspensions_of(flow_run_id: UUID) -> Iterator[tuple[str, str | None, Rule]]:
    """Yield what a run was suspended for: batch, block, and the verdict, newest first."""
    for named in _batches_of(flow_run_id):
        if artifacts.MAX_FAILED in named:
            allow_expired = artifacts.ALLOW_EXPIRED in named
            rule = Rule(_number(named[artifacts.MAX_FAILED]), allow_expired=allow_expired)
            yield named[artifacts.BATCH_ID], named.get(artifacts.BLOCK), rule


def _batches_of(flow_run_id: UUID) -> Iterator[dict[str, str]]:
    """Yield the metadata of the progress artifacts of a run, newest first."""
    found = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]),
        type=ArtifactFilterType(any_=["progress"]),
    )
    with get_client(sync_client=True) as client:
        newest_first = partial(client.read_artifacts, sort=ArtifactSort.CREATED_DESC)
        for artifact in _paged(partial(newest_first, artifact_filter=found)):
            named: dict[str, str] = artifact.metadata_ or {}
            if artifacts.BATCH_ID in named:
                yield named


def _number(text: str) -> float:
    return float(text) if "." in text or "e" in text else int(text)


def _client(block: str | None) -> SpooledClient:
    return SpooledClient() if block is None else load_credentials(block).get_client()
