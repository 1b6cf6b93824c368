"""Processes that a test did not start itself."""

from __future__ import annotations

from pathlib import Path


def is_alive(pid: int) -> bool:
    """Whether it runs; what takes over orphans may bury them late, or never."""
    return status_of(pid)[:1] not in ([], ["Z"])


def status_of(pid: int) -> list[str]:
    """State, parent, and more; nothing where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
