"""Check, without a network, that constraints.txt pins what pyproject.toml asks for.

python scripts/check_constraints.py    fail if a requirement has no pin that it allows
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (
    "uv pip compile --universal --python-version 3.10 --no-header --no-annotate "
    "--no-emit-index-url --extra dev pyproject.toml -o constraints.txt"
)


def requirements() -> Iterator[Requirement]:
    """Yield every requirement on another package, with and without extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        texts += extra
    for text in texts:
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) != project["name"]:
            yield requirement


def pins() -> dict[str, list[str]]:
    """Return the pinned versions by package: several where they differ by Python's version."""
    versions: dict[str, list[str]] = defaultdict(list)
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        pin = Requirement(line)
        (specifier,) = pin.specifier
        versions[canonicalize_name(pin.name)].append(specifier.version)
    return versions


def faults() -> Iterator[str]:
    """Yield what is wrong with constraints.txt, a sentence each."""
    pinned = pins()
    for requirement in requirements():
        versions = pinned.get(canonicalize_name(requirement.name))
        if versions is None:
            yield f"{requirement.name} is not pinned"
            continue
        for version in versions:
            if not requirement.specifier.contains(version, prereleases=True):
                yield f"{requirement.name} is pinned to {version}, but must be {requirement}"


def main() -> None:
    if found := sorted(set(faults())):
        raise SystemExit("\n".join([*found, f"constraints.txt is stale. Run: {COMMAND}"]))


if __name__ == "__main__":
    main()
