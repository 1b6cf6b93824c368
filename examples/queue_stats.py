"""How many jobs of a queue are where."""

from __future__ import annotations

from example_server import example_address

from spooled_pipelines import connect

QUEUE = "example-queue-stats"
WORKER = "example-worker"


def main() -> None:
    with example_address() as address, connect(address) as client:
        for number in range(5):
            client.enqueue(QUEUE, {"number": number})
        first, second, _ = client.dequeue(QUEUE, WORKER, batch_size=3)
        client.complete(first)
        client.fail(second, "no such file", retry=False)

        stats = client.queue_stats(QUEUE)
        print("pending:", stats.pending)
        print("processing:", stats.processing)
        print("completed:", stats.completed)
        print("deadletter:", stats.deadletter)
        print("total:", stats.total)


if __name__ == "__main__":
    main()
