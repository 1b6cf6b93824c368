"""Workers in a process of their own: `replica_worker.py ADDRESS KEY QUEUE WORKERS LOG`.

Each handler writes a line: job, lease, and from when until when the server gave the lease.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

from spooled_pipelines.worker import Worker


def main() -> None:
    address, key, queue, count, path = sys.argv[1:]
    log = os.open(Path(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def handle(job: Any) -> dict[str, object]:
        lease = f"{job.started_at.timestamp()} {job.lease_expires_at.timestamp()}"
        os.write(log, f"{job.id} {job.lease_id} {lease}\n".encode())
        return {"twice": job.payload["n"] * 2, "lease": job.lease_id}

    workers = [
        Worker(address, queue, handle, api_key=key, concurrency=4, lease_seconds=30)
        for _ in range(int(count))
    ]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    # Ends with the test, however that ends.
    sys.stdin.read()
    for worker in workers:
        worker.stop()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
