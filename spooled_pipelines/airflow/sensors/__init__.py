"""The sensor that waits for batches and queues."""

from __future__ import annotations

from spooled_pipelines.airflow.sensors.stream_jobs import StreamJobsSensor

__all__ = ["StreamJobsSensor"]
