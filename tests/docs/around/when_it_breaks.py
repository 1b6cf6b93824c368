"""Around what breaks: bad files, a disk that is full, a file that a server has already."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.doc_setup import CannotRunError, write_files
from tests.support.server_process import ServerProcess

# A disk of its own, which nobody but the server sees, and which goes with it.
SERVE = "spooled-pipelines serve --listen 127.0.0.1:0 --store sqlite:///small/spooled.db"
SMALL_DISK = [
    *("unshare", "--map-root-user", "--mount", "sh", "-c"),
    f"mount -t tmpfs -o size=1m none small && exec {SERVE}",
]


@contextmanager
def page(page: Any) -> Iterator[None]:
    write_files()
    Path("missing.csv").write_text("order_id,amount\n1,9.5\n2,12\n,7\n")
    pq.write_table(pa.table({"order_id": [1, 2**53 + 1], "amount": [9.5, 12]}), "long.parquet")
    page.codes.update(
        {
            "sp_test_of_yesterday": 4,
            "localhost:1": 3,
            "--key id": 2,
            "missing.csv": 2,
            "long.parquet": 2,
            "served.db": 2,
        }
    )
    with ServerProcess(Path("served.db").resolve()):
        yield


@contextmanager
def full_disk(page: Any) -> Iterator[None]:
    Path("small").mkdir()
    with Path("small.log").open("w") as log:
        server = subprocess.Popen(SMALL_DISK, stdout=subprocess.PIPE, stderr=log, text=True)
    assert server.stdout is not None
    said = server.stdout.readline()
    if not said.startswith("listening on "):
        server.wait()
        raise CannotRunError(f"there is no small disk: {Path('small.log').read_text()}")
    address = said.split()[-1]
    page.replace["localhost:50055"] = address
    page.shown[address] = "localhost:50055"
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGTERM)
        code = server.wait(60)
        server.stdout.close()
    log_text = Path("small.log").read_text()
    assert code == 0, log_text
    # What a busy server would fill the rest of the disk with.
    assert log_text.count("is full") <= 3, log_text
