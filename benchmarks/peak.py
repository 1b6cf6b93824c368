"""Enqueues a file and prints what that took: run by `benchmarks.memory` in a process of its own.

Imports nothing that `enqueue_batch` does not need.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time

from benchmarks.servers import API_KEY
from spooled_pipelines import connect


def main() -> None:
    """Return this process's peak memory in KiB, and the CPU seconds of each run."""
    warm, path, address, runs = sys.argv[1:5]
    peak, seconds = 0, []
    with connect(address, api_key=API_KEY) as client:
        # What is loaded once would count for a small table and not for a large one.
        client.enqueue_batch(warm, "memory", name=f"{path} {os.getpid()}")
        for run in range(int(runs)):
            began = time.process_time()
            client.enqueue_batch(path, "memory", name=f"{path} {os.getpid()} {run}")
            seconds.append(time.process_time() - began)
            # As the system counts a process's resident memory. Of one run: the others are for the
            # seconds alone.
            peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"kib": peak, "seconds": seconds}))


if __name__ == "__main__":
    main()
