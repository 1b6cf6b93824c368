"""What may be skipped where every test is to run: on a CI machine a skip is a failure."""

from __future__ import annotations

import os

import pytest

VARIABLE = "TESTS_MUST_RUN"
# A part of a test's name or of the reason that it gives, and why even a CI machine may not have it.
ALLOWED = {
    "there is no small disk": "only root, and not in every container, mounts one",
}


def judge(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a failure of a skip that is not allowed."""
    if not (report.skipped and os.environ.get(VARIABLE)):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if any(part in f"{report.nodeid} {reason}" for part in ALLOWED):
        return
    report.outcome = "failed"
    report.longrepr = f"{VARIABLE} is set, and this was skipped: {reason}"
