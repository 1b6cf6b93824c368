"""The statements of queries.sql by name, and the migrations by number."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

_MARK = "-- name: "


def _statements() -> Mapping[str, str]:
    text = (resources.files(__package__) / "queries.sql").read_text(encoding="utf-8")
    statements: dict[str, str] = {}
    for part in text.split(_MARK)[1:]:
        name, _, text = part.partition("\n")
        lines = [line for line in text.splitlines() if not line.startswith("--")]
        statements[name.strip()] = "\n".join(lines).strip()
    return MappingProxyType(statements)


def _migrations() -> list[tuple[int, str]]:
    folder = resources.files(__package__) / "migrations"
    found = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return sorted((int(file.name[:4]), file.read_text(encoding="utf-8")) for file in found)


SQL = _statements()
# (number, statements), each run once on a file, in order.
MIGRATIONS = _migrations()
