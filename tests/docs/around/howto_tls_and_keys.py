"""Around TLS and keys: a certificate of the test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def certified(page: Any) -> Iterator[None]:
    from tests.support.certificates import make_certificate

    make_certificate().write(Path("tls.crt"), Path("tls.key"))
    yield
    os.environ["SPOOLED_GRPC_ADDRESS"] = page.address
