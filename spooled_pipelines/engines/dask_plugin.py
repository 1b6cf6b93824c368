"""How a key gets to the workers of a Dask cluster, those that come later included."""

from __future__ import annotations

from typing import Any

from distributed import WorkerPlugin

from spooled_pipelines.engines.dask import BROUGHT


class BringKey(WorkerPlugin):
    """Puts a key into a worker's memory, and takes it away again."""

    def __init__(self, token: str, key: str) -> None:
        self._token = token
        self._key = key

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._token!r})"

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        BROUGHT[self._token] = self._key

    def teardown(self, worker: Any) -> None:  # noqa: ARG002
        BROUGHT.pop(self._token, None)
