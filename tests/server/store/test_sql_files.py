"""The SQL files: both in one order, each statement described, used, and found where it is used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spooled_pipelines.server import store
from spooled_pipelines.server.core.jobs.records import JobRecord
from spooled_pipelines.server.store.rows import JOB_COLUMNS

FOLDER = Path(store.__file__).parent
STORES = ("sqlite", "postgres")


def text(kind: str) -> str:
    return (FOLDER / kind / "queries.sql").read_text(encoding="utf-8")


def names(kind: str) -> list[str]:
    return re.findall(r"^-- name: (\w+)$", text(kind), re.MULTILINE)


@pytest.mark.parametrize("kind", STORES)
def test_each_statement_is_used_and_each_name_that_is_used_is_there(kind: str) -> None:
    code = "\n".join(path.read_text() for path in (FOLDER / kind).rglob("*.py"))
    named = names(kind)
    assert len(named) == len(set(named))
    assert [name for name in named if f'"{name}"' not in code] == []
    asked = re.findall(r'SQL\["(\w+)"\]|\b(?:rows|send|start|locked)\(\s*"(\w+)"', code)
    assert {one or other for one, other in asked} <= set(named)


@pytest.mark.parametrize("kind", STORES)
def test_each_name_is_followed_by_a_sentence(kind: str) -> None:
    silent = re.findall(r"^-- name: (\w+)\n(?!-- [A-Z])", text(kind), re.MULTILINE)
    assert silent == []


def test_both_files_are_in_one_order() -> None:
    sections, common = [], []
    here, there = (set(names(kind)) for kind in STORES)
    for kind in STORES:
        sections.append(re.findall(r"^-- (.+)\n-- =+$", text(kind), re.MULTILINE))
        common.append([name for name in names(kind) if name in here & there])
    assert common[0] == common[1]
    shared = [section for section in sections[1] if section in sections[0]]
    assert [section for section in sections[0] if section in shared] == shared


@pytest.mark.parametrize("kind", STORES)
def test_lists_of_columns_are_written_once(kind: str) -> None:
    assert "started_at, completed_at, lease_expires_at" not in re.sub(r"\s+", " ", text(kind))


def test_a_job_s_columns_are_those_of_its_record_in_one_order() -> None:
    rest = ("seq", "job_id", "queue_name"), ("result", "payload", "tags", "due_at")
    assert (*rest[0], *JOB_COLUMNS, *rest[1]) == JobRecord._fields
