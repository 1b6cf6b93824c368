"""A home of the tests' own for Airflow and Dagster, which read their settings when imported."""

from __future__ import annotations

import os
import tempfile

_home = tempfile.TemporaryDirectory(prefix="orchestrators-tests-")
for name, value in {
    "AIRFLOW_HOME": f"{_home.name}/airflow",
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_home.name}/airflow/airflow.db",
    "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{_home.name}/airflow/logs",
    "DAGSTER_HOME": _home.name,
    "DAGSTER_DISABLE_TELEMETRY": "1",
}.items():
    # Where tests of Airflow's own run in the same process, theirs is there already.
    os.environ.setdefault(name, value)
