"""Ray: two worker processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import cloudpickle
import pandas as pd
import pyarrow as pa
import ray

from spooled_pipelines.engines import ray as engine
from tests.support.engines import Rows


class Ray:
    name = "ray"
    raises_ours = False

    def frame(self, rows: Rows, partitions: int) -> Any:
        table = pa.Table.from_pylist(rows)
        size = -(-len(rows) // partitions) or 1
        return ray.data.from_arrow(
            [table.slice(at, size) for at in range(0, max(len(rows), 1), size)]
        )

    def computed(self, rows: Rows, partitions: int, each: Callable[[int], None]) -> Any:
        def look(piece: pd.DataFrame) -> pd.DataFrame:
            for number in piece["id"]:
                each(int(number))
            return piece

        return self.frame(rows, partitions).map_batches(look, batch_format="pandas")

    def happened(self) -> dict[str, int]:
        return {}

    def enqueue(self, frame: Any, queue_name: str, **arguments: Any) -> Any:
        return engine.enqueue(frame, queue_name, **arguments)

    def results(self, batch: Any) -> list[Mapping[str, Any]]:
        return list(engine.results(batch).take_all())

    def shown(self, frame: Any, queue_name: str, **arguments: Any) -> str:
        sink = engine.SpooledDatasink(queue_name, **arguments)
        frame.write_datasink(sink)
        session = Path(ray.nodes()[0]["ObjectStoreSocketName"]).parents[1]
        logs = [
            path.read_text(errors="replace") for path in session.glob("logs/**/*") if path.is_file()
        ]
        assert logs
        return cloudpickle.dumps(sink).decode("latin-1") + "".join(logs)


@contextmanager
def started() -> Iterator[Ray]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield Ray()
    finally:
        ray.shutdown()
