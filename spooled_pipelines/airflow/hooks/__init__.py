"""The hook: from an Airflow connection of type `spooled` to a client."""

from __future__ import annotations

import spooled_pipelines.airflow.platform.versions  # noqa: F401 - it says which Airflow is needed, first
from spooled_pipelines.airflow.hooks.spooled import (
    DEFAULT_CONNECTION,
    SpooledHook,
    WithHook,
    server_of,
)

__all__ = ["DEFAULT_CONNECTION", "SpooledHook", "WithHook", "server_of"]
