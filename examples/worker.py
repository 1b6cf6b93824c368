"""A worker: it takes jobs, renews their leases, sends heartbeats, and settles them."""

from __future__ import annotations

from dataclasses import dataclass

from example_server import example_address

from spooled_pipelines import connect
from spooled_pipelines.worker import Discard, Worker

QUEUE = "example-worker"


@dataclass
class Rectangle:
    width: int
    height: int


def area(rectangle: Rectangle) -> dict[str, int]:
    if rectangle.width < 0 or rectangle.height < 0:
        raise Discard("there is no such rectangle")
    return {"area": rectangle.width * rectangle.height}


def main() -> None:
    with example_address() as address, connect(address) as client:
        sides = [(2, 3), (4, 5), (-1, 1)]
        ids = [client.enqueue(QUEUE, {"width": w, "height": h}).job_id for w, h in sides]

        # Without stop_when_empty it waits for more, until SIGTERM or Ctrl-C.
        report = Worker(client, QUEUE, area, concurrency=4, stop_when_empty=True).run()
        print(f"completed: {report.completed}, dead: {report.deadletter}")
        for job_id in ids:
            job = client.get_job(job_id)
            print(job.status, job.result or job.last_error)


if __name__ == "__main__":
    main()
