"""Around TLS and keys: a certificate of the test's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.doc_blocks import ROOT

sys.path.insert(0, str(ROOT / "tests" / "server"))


@contextmanager
def certified(page: Any) -> Iterator[None]:
    from certificates import make_certificate

    make_certificate().write(Path("tls.crt"), Path("tls.key"))
    yield
    os.environ["SPOOLED_GRPC_ADDRESS"] = page.address
