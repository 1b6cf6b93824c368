"""One conversation in which jobs are taken and settled; nothing waits for its own answer."""

from __future__ import annotations

from example_server import example_address

from spooled_pipelines import Job, JobCompleted, JobFailed, RequestRejected, connect

QUEUE = "example-bidirectional"
WORKER = "example-worker"
COUNT = 4


def main() -> None:
    with example_address() as address, connect(address) as client:
        for number in range(COUNT):
            client.enqueue(QUEUE, {"number": number})

        settled = 0
        with client.process_jobs() as stream:
            stream.dequeue(QUEUE, WORKER, batch_size=COUNT, lease_seconds=60)
            for answer in stream:
                if isinstance(answer, Job):
                    number = answer.payload["number"]
                    if number % 2 == 0:
                        stream.complete(answer, result={"half": number // 2})
                    else:
                        stream.fail(answer, f"{number} is odd", retry=False)
                    continue
                settled += 1
                if isinstance(answer, JobCompleted):
                    print("completed")
                elif isinstance(answer, JobFailed):
                    print("failed, to be tried again:", answer.will_retry)
                elif isinstance(answer, RequestRejected):
                    print("refused:", answer.error)
                if settled == COUNT:
                    stream.done_writing()


if __name__ == "__main__":
    main()
