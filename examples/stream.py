"""Jobs are pushed as they come, without asking again and again."""

from __future__ import annotations

import threading

from example_server import example_address

from spooled_pipelines import SpooledClient, connect

QUEUE = "example-stream"
WORKER = "example-worker"
COUNT = 3


def produce(client: SpooledClient) -> None:
    """Somebody else, who enqueues while we listen."""
    for number in range(COUNT):
        client.enqueue(QUEUE, {"number": number})


def main() -> None:
    with example_address() as address, connect(address) as client:
        producer = threading.Thread(target=produce, args=(client,))
        with client.stream_jobs(QUEUE, WORKER, lease_seconds=60) as jobs:
            producer.start()
            for done, job in enumerate(jobs, start=1):
                client.complete(job, result={"squared": job.payload["number"] ** 2})
                print("done:", job.payload)
                if done == COUNT:
                    break
        producer.join()


if __name__ == "__main__":
    main()
