"""Around the page about testing: its test is run by pytest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.doc_blocks import DOCS, blocks_of


@contextmanager
def as_a_test(page: Any) -> Iterator[None]:
    yield
    first, second = blocks_of(DOCS / "testing.md")
    Path("test_page.py").write_text(first.text + second.text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_page.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
