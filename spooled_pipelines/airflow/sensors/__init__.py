"""The sensor that waits for batches and queues."""

from __future__ import annotations

import spooled_pipelines.airflow.platform.versions  # noqa: F401 - it says which Airflow is needed, first
from spooled_pipelines.airflow.sensors.stream_jobs import StreamJobsSensor

__all__ = ["StreamJobsSensor"]
