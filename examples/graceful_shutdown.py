"""A worker that is told to stop finishes what runs, gives back the rest, and ends.

python graceful_shutdown.py
"""

from __future__ import annotations

import os
import signal
import threading
import time

from example_server import example_address

from spooled_pipelines import Job, connect
from spooled_pipelines.worker import Worker

QUEUE = "example-graceful-shutdown"
COUNT = 200


def handle(job: Job) -> dict[str, int]:
    time.sleep(0.05)
    return {"number": job.payload["number"]}


def main() -> None:
    with example_address() as address, connect(address) as client:
        for number in range(COUNT):
            client.enqueue(QUEUE, {"number": number})

        # As Kubernetes, systemd or Ctrl-C would, a moment after it began.
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        worker = Worker(client, QUEUE, handle, concurrency=4, grace_seconds=10)
        report = worker.run()

        stats = client.queue_stats(QUEUE)
        print("some are done:", 0 < report.completed < COUNT)
        print("none is left half done:", stats.processing == 0)
        print("the rest waits for another worker:", stats.pending == COUNT - report.completed)
        client.purge_queue(QUEUE)


if __name__ == "__main__":
    main()
