"""Write docs/licences.md: what comes along with each extra, and under which licence.

python scripts/build_licences.py    write it, from what is installed
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

PACKAGE = "spooled-pipelines"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "licences.md"
# What is for working on the package itself comes along with nobody's installation.
OWN = frozenset({"dev", "dev-core", "docs", "demo"})
HEADER = """\
# Licences

`spooled-pipelines` is under the Apache License 2.0. It brings along, in its own files, htmx and
idiomorph (both Zero-Clause BSD), which the [page](page.md) sends to browsers.

What an installation fetches, with all that comes with it, by the extra that asks for it first:

<!-- Made from what is installed by scripts/build_licences.py: run that, do not change this. -->

| package | licence | extra |
| --- | --- | --- |
"""
_SHORT = 60
_NAMES = {
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "BSD 3-Clause License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
}


def packages() -> dict[str, tuple[str, str]]:
    """Every package that an extra brings along: its licence, and the first such extra."""
    found: dict[str, tuple[str, str]] = {}
    for extra in ("", *sorted(set(_extras()) - OWN - {"all"})):
        for name in sorted(_with_needed(PACKAGE, extra, set())):
            found.setdefault(name, (licence(name), extra or "none"))
    return dict(sorted(found.items()))


def licence(name: str) -> str:
    """As a package's own metadata say it."""
    about = metadata.metadata(name)
    said = _first(about, "License-Expression")
    if not said:
        classified = [
            value.rpartition(" :: ")[2]
            for value in about.get_all("Classifier") or ()
            if value.startswith("License :: ") and not value.endswith("OSI Approved")
        ]
        said = " or ".join(classified) or _first(about, "License").partition("\n")[0]
    return _NAMES.get(said, said[:_SHORT] or "see its home page")


def _first(about: metadata.PackageMetadata, field: str) -> str:
    return str((about.get_all(field) or [""])[0]).strip()


def page() -> str:
    """Return the whole page."""
    rows = [f"| {name} | {kind} | {extra} |" for name, (kind, extra) in packages().items()]
    return HEADER + "\n".join(rows) + "\n"


def _extras() -> list[str]:
    return metadata.metadata(PACKAGE).get_all("Provides-Extra") or []


def _with_needed(name: str, extra: str, seen: set[tuple[str, str]]) -> Iterator[str]:
    if (name, extra) in seen:
        return
    seen.add((name, extra))
    for text in metadata.requires(name) or ():
        needed = Requirement(text)
        wanted = needed.marker is None or needed.marker.evaluate({"extra": extra})
        # With an extra, what is needed without one is told of already.
        if not wanted or (extra and needed.marker is None):
            continue
        key = re.sub(r"[-_.]+", "-", needed.name).lower()
        try:
            metadata.version(key)
        except metadata.PackageNotFoundError:
            continue
        if key != PACKAGE:
            yield key
        for part in ("", *needed.extras):
            yield from _with_needed(key, part, seen)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
