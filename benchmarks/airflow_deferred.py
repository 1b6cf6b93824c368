"""A program in its own Airflow home that defers task instances in the database, as a worker does.

Started by `benchmarks.airflow_waits`; prints nothing.

    python -m benchmarks.airflow_deferred DAG_ID RUN_ID WAITS.json

The file holds what each trigger waits for: a list of `Batch.to_dict`, or of nulls for triggers that
wait for nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow.models.dagbag import DBDagBag
from airflow.models.trigger import Trigger
from airflow.triggers.base import BaseTrigger, TriggerEvent
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType

from spooled_pipelines.airflow.triggers import BatchTrigger


class Nothing(BaseTrigger):
    """What any trigger costs, whatever it does."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "benchmarks.airflow_deferred.Nothing", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(1e9)
        yield TriggerEvent(None)  # type: ignore[no-untyped-call]  # as above


def main() -> None:
    dag_id, run_id, path = sys.argv[1:]
    batches = json.loads(Path(path).read_text())
    now = datetime.now(timezone.utc)
    with create_session() as session:
        dag = DBDagBag().get_latest_version_of_dag(dag_id, session=session)
        assert dag is not None
        run = dag.create_dagrun(
            run_id=run_id,
            run_after=now,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.CLI,
            state=DagRunState.RUNNING,
            start_date=now,
            session=session,
        )
        instances = sorted(run.get_task_instances(session=session), key=lambda ti: ti.map_index)
        assert len(instances) == len(batches), len(instances)
        for instance, batch in zip(instances, batches, strict=True):
            deadline = (now + timedelta(hours=1)).timestamp()
            waits = Nothing() if batch is None else BatchTrigger(batch=batch, deadline=deadline)
            trigger = Trigger.from_object(waits)
            session.add(trigger)
            session.flush()
            instance.state = TaskInstanceState.DEFERRED
            instance.start_date = now
            instance.try_number = 1
            instance.trigger_id = trigger.id
            instance.next_method = "execute_complete"
            instance.next_kwargs = {}


if __name__ == "__main__":
    main()
