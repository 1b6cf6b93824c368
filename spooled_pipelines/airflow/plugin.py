"""A tab beside a task's logs in Airflow's own pages: its batch, as the server's page shows it.

Off unless ``[spooled] batch_tab`` is True: Airflow gives a plugin's tab to every task of every DAG.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin

from spooled_pipelines.airflow.config import batch_tab

PREFIX = "/spooled"


class SpooledPlugin(AirflowPlugin):
    """Adds the tab and the address it leads to, where the configuration asks for them."""

    name = "spooled"

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:  # noqa: ARG003 - Airflow's signature
        """Read the configuration: Airflow calls this once, and reports what it raises."""
        if not batch_tab():
            return
        cls.fastapi_apps = [{"name": "Spooled", "url_prefix": PREFIX, "app": _app}]
        cls.external_views = [
            {
                "name": "Spooled batch",
                "destination": "task_instance",
                "url_route": "spooled-batch",
                "href": f"{PREFIX}/batch/{{DAG_ID}}/{{RUN_ID}}/{{TASK_ID}}/{{MAP_INDEX}}",
            }
        ]


async def _app(scope: Any, receive: Any, send: Any) -> None:
    # Every process of Airflow loads its plugins, and only one of them serves pages.
    from spooled_pipelines.airflow.tab import app

    await app(scope, receive, send)
