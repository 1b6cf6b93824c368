"""Enqueues a file and prints the peak of its own memory in KiB: run by `benchmarks.memory`.

Imports nothing that `enqueue_batch` does not need.
"""

from __future__ import annotations

import resource
import sys

from benchmarks.servers import API_KEY
from spooled_pipelines import connect


def main() -> None:
    path, address = sys.argv[1:3]
    with connect(address, api_key=API_KEY) as client:
        client.enqueue_batch(path, "memory", name=path)
    # As the system counts a process's resident memory.
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main()
