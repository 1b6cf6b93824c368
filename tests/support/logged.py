"""What this package logged during a test."""

from __future__ import annotations

import logging

import pytest


def records_of_ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Without what asyncio says of an earlier test's tasks when they are collected as garbage."""
    return [each for each in caplog.records if each.name.startswith("spooled_pipelines")]
