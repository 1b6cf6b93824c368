"""The Prefect server that modules of tests share: a start takes a processor for six seconds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

_running = ExitStack()
_started: list[bool] = []


def shared_prefect_server() -> None:
    """Start it, unless it runs; `tests/conftest.py` ends it behind the last file that uses it."""
    if not _started:
        _running.enter_context(prefect_server())
        _started.append(True)


def end_prefect_server() -> None:
    """End it, where it runs."""
    if _started:
        _started.clear()
        _running.close()


@contextmanager
def prefect_server() -> Iterator[None]:
    """A Prefect server of the tests' own, without telemetry."""
    from prefect.settings import PREFECT_HOME, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="prefect-tests-") as home,
    ):
        patch.setenv("DO_NOT_TRACK", "1")
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with (
            temporary_settings(updates={PREFECT_HOME: home}),
            prefect_test_harness(server_startup_timeout=240),
        ):
            yield
