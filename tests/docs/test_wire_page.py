"""The page of the wire knows every call and every limit."""

from __future__ import annotations

import re
from pathlib import Path

from spooled_pipelines.server.auth import ROLES, Role
from spooled_pipelines.wire import limits, methods

DOCS = Path(__file__).resolve().parents[2] / "docs"
SERVICES = (
    methods.QUEUE_SERVICE,
    methods.WORKER_SERVICE,
    methods.BATCH_SERVICE,
    methods.QUEUE_ADMIN_SERVICE,
    methods.KEY_SERVICE,
)


def test_the_page_of_the_wire_lists_every_call_and_who_may_make_it() -> None:
    page = (DOCS / "wire.md").read_text()
    rows = re.findall(r"^\| `([\w.]+)` \| `(\w+)` \| ([\w, ]+) \| \S.* \|$", page, re.MULTILINE)
    listed = {f"/{service}/{name}": set(roles.split(", ")) for service, name, roles in rows}
    known = [method for service in SERVICES for method in methods.methods_of(service).values()]
    assert listed == {
        method.path: {role.value for role in Role if role in ROLES[method.path]} for method in known
    }


def test_the_page_of_the_wire_has_the_limits() -> None:
    page = " ".join((DOCS / "wire.md").read_text().split())
    for said, value in (
        ("16 MiB", limits.MESSAGE_MAX_BYTES >> 20),
        ("1 MiB", limits.PAYLOAD_MAX_BYTES >> 20),
        ("10,000 rows", limits.CHUNK_ROWS_MAX),
        ("1,000 jobs", limits.PAGE_JOBS_MAX),
        ("64 KiB", limits.TAGS_MAX_BYTES >> 10),
        ("255 characters", limits.IDEMPOTENCY_KEY_MAX),
        ("name 100", limits.QUEUE_NAME_MAX),
    ):
        assert said in page
        assert str(value) in said.replace(",", "")
