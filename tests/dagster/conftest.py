"""A home of the tests' own for Dagster, which reads its settings when it is imported."""

from __future__ import annotations

import os
import tempfile

_home = tempfile.TemporaryDirectory(prefix="dagster-tests-")
os.environ.setdefault("DAGSTER_HOME", _home.name)
os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
