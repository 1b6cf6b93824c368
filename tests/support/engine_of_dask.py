"""Dask distributed: two worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import cloudpickle
import dask
import dask.dataframe as dd
import pandas as pd
from dask import base
from distributed import Client, LocalCluster

from spooled_pipelines.engines import dask as engine
from tests.support.engines import Rows


class Dask:
    name = "dask"
    raises_ours = True

    def __init__(self, client: Client) -> None:
        self._client = client

    def frame(self, rows: Rows, partitions: int) -> Any:
        return dd.from_pandas(pd.DataFrame(rows), npartitions=partitions)

    def computed(self, rows: Rows, partitions: int, each: Callable[[int], None]) -> Any:
        frame = self.frame(rows, partitions)

        def look(piece: pd.DataFrame) -> pd.DataFrame:
            for number in piece["id"]:
                each(int(number))
            return piece

        return frame.map_partitions(look, meta=frame._meta)

    def happened(self) -> dict[str, int]:
        return {}

    def enqueue(self, frame: Any, queue_name: str, **arguments: Any) -> Any:
        return engine.enqueue(frame, queue_name, **arguments)

    def results(self, batch: Any) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = engine.results(batch, 2).compute().to_dict("records")
        return found

    def shown(self, frame: Any, queue_name: str, **arguments: Any) -> str:
        graphs: list[bytes] = []
        compute = base.compute

        def noted(*parts: Any, **rest: Any) -> Any:
            graphs.extend(cloudpickle.dumps(part) for part in parts)
            return compute(*parts, **rest)

        base.compute = noted
        try:
            engine.enqueue(frame, queue_name, **arguments)
        finally:
            base.compute = compute
        assert graphs
        logs = str(self._client.get_worker_logs()) + str(self._client.get_scheduler_logs())
        return logs + "".join(graph.decode("latin-1") for graph in graphs)


@contextmanager
def started() -> Iterator[Dask]:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 5}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield Dask(client)
