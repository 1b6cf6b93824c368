"""A tab beside a task's logs in Airflow's own pages: its batch, as the server's page shows it.

Off unless ``[spooled] batch_tab`` is True: Airflow gives a plugin's tab to every task of every DAG.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin

from spooled_pipelines.airflow.config import batch_tab

PREFIX = "/spooled"


async def _app(scope: Any, receive: Any, send: Any) -> None:
    # Every process of Airflow loads its plugins, and one of them serves pages.
    from spooled_pipelines.airflow.tab import app

    await app(scope, receive, send)


_APPS: list[Any] = [{"name": "Spooled", "url_prefix": PREFIX, "app": _app}]
_VIEWS: list[Any] = [
    {
        "name": "Spooled batch",
        "destination": "task_instance",
        "url_route": "spooled-batch",
        "href": f"{PREFIX}/batch/{{DAG_ID}}/{{RUN_ID}}/{{TASK_ID}}/{{MAP_INDEX}}",
    }
]
_IS_ON = batch_tab()


class SpooledPlugin(AirflowPlugin):
    """See the module."""

    name = "spooled"
    fastapi_apps = _APPS if _IS_ON else []
    external_views = _VIEWS if _IS_ON else []
