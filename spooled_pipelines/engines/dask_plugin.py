"""How a key gets to the workers of a Dask cluster, those that come later included."""

from __future__ import annotations

from typing import Any

from distributed import WorkerPlugin

from spooled_pipelines.engines._parts import WORKER_API_KEYS


class ApiKeyPlugin(WorkerPlugin):
    """Puts a key into a worker's memory, and takes it away again."""

    def __init__(self, token: str, api_key: str) -> None:
        self._token = token
        self._api_key = api_key

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._token!r})"

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        WORKER_API_KEYS[self._token] = self._api_key

    def teardown(self, worker: Any) -> None:  # noqa: ARG002
        WORKER_API_KEYS.pop(self._token, None)
