"""The address behind the tab of `plugin.py`: it redirects to the page of a task's batch.

The target is the address of the task's link to its batch, which the task has put into XCom. Airflow
has no public interface to read XCom or to check permissions within the API server, so its own is
used.
"""

from __future__ import annotations

import contextlib
import json
from urllib.parse import urlsplit

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI
from fastapi.responses import PlainTextResponse, RedirectResponse, Response

from spooled_pipelines.airflow.links import BatchLink

_UNMAPPED = -1
_NOTHING = (
    "This task has no Spooled batch yet, or none that it can link to: the extra `page` of its "
    "connection says where the server's page is (serve --http)."
)

app = FastAPI(title="Spooled", docs_url=None, redoc_url=None, openapi_url=None)


@app.get(
    "/batch/{dag_id}/{run_id}/{task_id}/{map_index}",
    dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE))],
)
def batch(dag_id: str, run_id: str, task_id: str, map_index: str) -> Response:
    """Redirect to the page of the task's batch, for users who may see the task."""
    # For a task that is not mapped, Airflow leaves "{MAP_INDEX}" in the address.
    index = int(map_index) if map_index.isdecimal() else _UNMAPPED
    address = _link(dag_id, run_id, task_id, index)
    if urlsplit(address).scheme not in ("http", "https"):
        return PlainTextResponse(_NOTHING)
    return RedirectResponse(address, 303)


def _link(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    with create_session() as session:
        row = session.execute(
            XComModel.get_many(
                key=BatchLink().xcom_key,
                run_id=run_id,
                dag_ids=dag_id,
                task_ids=task_id,
                map_indexes=map_index,
            ).with_only_columns(XComModel.value)
        ).first()
    if row is None:
        return ""
    value = row.value
    # Stored as JSON, or as text that is not JSON.
    with contextlib.suppress(TypeError, ValueError):
        value = json.loads(value)
    return value if isinstance(value, str) else ""
