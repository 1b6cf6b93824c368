"""Modules of this package that tests run in processes of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def command(module: str, *arguments: str) -> list[str]:
    """Return what runs the module, such as `proof.claimer`, with these arguments."""
    return [sys.executable, "-m", f"tests.support.{module}", *arguments]


def environment(**more: str) -> dict[str, str]:
    """Return our own environment, with the tests to be imported from everywhere."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}
