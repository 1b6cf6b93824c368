"""Take jobs, do them, and say how it went."""

from __future__ import annotations

from example_server import example_address

from spooled_pipelines import Job, SpooledClient, connect

QUEUE = "example-dequeue"
WORKER = "example-worker"


def do(job: Job) -> dict[str, int]:
    """Do the work itself: here, compute an area."""
    width, height = job.payload["width"], job.payload["height"]
    if width < 0 or height < 0:
        raise ValueError(f"a rectangle of {width} by {height} does not exist")
    return {"area": width * height}


def settle(client: SpooledClient, job: Job) -> None:
    """Do the job, and report the result to the server."""
    try:
        result = do(job)
    except ValueError as error:
        outcome = client.fail(job, str(error), retry=False)
        print(f"failed: {error}; will be tried again: {outcome.will_retry}")
    else:
        client.complete(job, result=result)
        print("completed:", client.get_job(job.id).result)


def main() -> None:
    with example_address() as address, connect(address) as client:
        for width, height in [(2, 3), (4, 5), (-1, 1)]:
            client.enqueue(QUEUE, {"width": width, "height": height})

        jobs = client.dequeue(QUEUE, WORKER, batch_size=10, lease_seconds=60)
        print("claimed:", len(jobs))
        for job in jobs:
            settle(client, job)


if __name__ == "__main__":
    main()
