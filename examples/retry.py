"""What the client tries again by itself, how often, and what you see of it."""

from __future__ import annotations

import logging
import sys

from example_server import example_address

from spooled_pipelines import connect, errors
from spooled_pipelines.rpc.retry import RetryPolicy

QUEUE = "example-retry"


def main() -> None:
    # Each try that failed is an INFO line of this logger.
    logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
    logging.getLogger("spooled_pipelines.rpc").setLevel(logging.INFO)

    patient = RetryPolicy(max_attempts=3, initial_seconds=0.05, max_seconds=1.0)
    with connect("localhost:1", api_key="sp_test_x", retry=patient) as client:
        try:
            client.enqueue(QUEUE, {"number": 1})
        except errors.UnavailableError as error:
            print("given up after", error.details["attempts"], "tries")

    # Every enqueue carries a key, so that one whose answer was lost is not done twice. With a
    # key of your own that also holds from one run of a program to the next.
    with example_address() as address, connect(address, retry=patient) as client:
        first = client.enqueue(QUEUE, {"number": 1}, idempotency_key="example-retry-1")
        again = client.enqueue(QUEUE, {"number": 1}, idempotency_key="example-retry-1")
        print("the same job:", again.job_id == first.job_id)


if __name__ == "__main__":
    main()
