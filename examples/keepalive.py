"""A stream on which nothing happens stays open, since the client pings the server meanwhile.

python keepalive.py [seconds to be idle]
"""

from __future__ import annotations

import sys
import threading

from example_server import example_address

from spooled_pipelines import connect
from spooled_pipelines.rpc.channel import channel_options

QUEUE = "example-keepalive"
WORKER = "example-worker"


def main() -> None:
    idle_seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    with example_address() as address, connect(address) as client:
        # Set by the client itself; nothing is to be done.
        for name, value in channel_options(client.settings):
            if "keepalive" in name or "pings" in name:
                print(f"{name} = {value}")

        with client.stream_jobs(QUEUE, WORKER) as jobs:
            timer = threading.Timer(idle_seconds, client.enqueue, (QUEUE, {"late": True}))
            timer.start()
            job = next(iter(jobs))
            timer.join()
            print(f"after {idle_seconds:g} s in which nothing happened:", job.payload)
            client.complete(job)


if __name__ == "__main__":
    main()
