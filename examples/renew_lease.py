"""Keep a job for longer than its first lease; a lease that is not renewed is lost."""

from __future__ import annotations

from example_server import example_address

from spooled_pipelines import connect, errors

QUEUE = "example-renew-lease"
WORKER = "example-worker"


def main() -> None:
    with example_address() as address, connect(address) as client:
        client.enqueue(QUEUE, {"film": "Metropolis"})
        (job,) = client.dequeue(QUEUE, WORKER, lease_seconds=5)

        # Renew at a third of the lease, from a thread of its own if the work blocks.
        for part in range(3):
            until = client.renew_lease(job, lease_seconds=60)
            longer = job.lease_expires_at is not None and until > job.lease_expires_at
            print(f"part {part + 1} of 3; the lease is longer than the first: {longer}")
        client.complete(job, result={"minutes": 153})

        try:
            client.renew_lease(job)
        except errors.ConflictError as error:
            print("a settled job has no lease any more:", error.code)


if __name__ == "__main__":
    main()
