"""What can go wrong, and whose turn it is then: every error has a type, a code and facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from example_server import example_address

from spooled_pipelines import SpooledClient, connect, errors

QUEUE = "example-errors"
WORKER = "example-worker"


def attempt(what: str, call: Callable[[], object]) -> None:
    """Run it, and print the outcome."""
    try:
        call()
    except errors.LeaseLostError:
        print(f"{what}: the job is somebody else's now, drop the result")
    except errors.LossyValueError as error:
        print(f"{what}: {error.column} would not survive")
    except errors.RateLimitError as error:
        print(f"{what}: wait {error.retry_after} s")
    except errors.SpooledError as error:
        print(f"{what}: {type(error).__name__} {error.code}")


def main() -> None:
    with example_address() as address, connect(address) as client:
        attempt("a job that is not there", lambda: client.get_job("no-such-job"))
        attempt("a priority beyond the limit", lambda: client.enqueue(QUEUE, {}, priority=101))
        attempt("a number beyond 2**53", lambda: client.enqueue(QUEUE, {"id": 2**60}))

        client.enqueue(QUEUE, {"number": 1})
        (job,) = client.dequeue(QUEUE, WORKER)
        attempt("a lease of somebody else", lambda: client.complete(job, lease_id="not-mine"))
        client.complete(job)
        attempt("a job that is done already", lambda: client.complete(job))

        wrong = replace(client.settings, api_key="sp_test_wrong")
        with SpooledClient(wrong) as stranger:
            attempt("a wrong key", lambda: stranger.queue_stats(QUEUE))

    with connect("localhost:1", api_key="sp_test_x", timeout_seconds=1) as nobody:
        attempt("no server at all", lambda: nobody.queue_stats(QUEUE))


if __name__ == "__main__":
    main()
