"""Check, without a network, that constraints.txt pins what pyproject.toml asks for.

python scripts/check_constraints.py    fail if a requirement has no pin that it allows, or if the
                                       image's pins, with hashes, are others
"""

from __future__ import annotations

import re
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
# What the image installs, each with the hashes that its files may have.
IMAGE = ROOT / "deploy" / "requirements.txt"
IMAGE_BUILD = ROOT / "deploy" / "requirements-build.txt"
_HASHED = (
    "uv pip compile --generate-hashes --universal --python-version 3.12 --no-header --no-annotate "
    "--no-emit-index-url -c constraints.txt"
)
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
IMAGE_COMMANDS = (
    f"{_HASHED} --extra page --extra postgres --extra otel pyproject.toml "
    "-o deploy/requirements.txt\n"
    f"echo 'setuptools>=77' | {_HASHED} - -o deploy/requirements-build.txt"
)


def requirements(*extras: str) -> Iterator[Requirement]:
    """Yield every requirement on another package: of all extras, or without any and of these."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"]]
    for name, extra in project["optional-dependencies"].items():
        texts += extra if not extras or name in extras else ()
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


def faults_of_image() -> Iterator[str]:
    """Yield what is wrong with the files that the image is installed from."""
    pinned, hashed = pins(), set()
    for file in (IMAGE, IMAGE_BUILD):
        for entry in re.split(r"\n(?=\S)", file.read_text().strip()):
            line, *hashes = entry.split(" \\\n")
            pin = Requirement(line)
            (specifier,) = pin.specifier
            hashed.add(canonicalize_name(pin.name))
            if specifier.version not in pinned[canonicalize_name(pin.name)]:
                yield f"{file.name} has {line}, which constraints.txt does not have"
            if not hashes or any(not _HASH.fullmatch(one.strip()) for one in hashes):
                yield f"{file.name} has {line} without sha256 hashes"
    for requirement in requirements("page", "postgres", "otel"):
        if canonicalize_name(requirement.name) not in hashed and not requirement.marker:
            yield f"{IMAGE.name} lacks {requirement.name}"


def main() -> None:
    if found := sorted(set(faults())):
        raise SystemExit("\n".join([*found, f"constraints.txt is stale. Run: {COMMAND}"]))
    if found := sorted(faults_of_image()):
        raise SystemExit("\n".join([*found, f"The image's pins are stale. Run:\n{IMAGE_COMMANDS}"]))


if __name__ == "__main__":
    main()
