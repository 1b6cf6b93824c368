"""A conversation in which jobs are done, and heartbeats beside it: the worker lives."""

from __future__ import annotations

import threading

from example_server import example_address

from spooled_pipelines import Job, JobCompleted, SpooledClient, connect
from spooled_pipelines.types import HeartbeatResult

QUEUE = "example-heartbeat"
WORKER = "example-heartbeat-worker"
COUNT = 3


def keep_beating(client: SpooledClient, every: float, done: threading.Event) -> HeartbeatResult:
    """Heartbeats until it is done; the last answer. A worker that is asked to drain ends."""
    while True:
        answer = client.heartbeat(WORKER, current_jobs=1)
        if answer.should_drain or done.wait(every):
            return answer


def main() -> None:
    with example_address() as address, connect(address) as client:
        for number in range(COUNT):
            client.enqueue(QUEUE, {"number": number})
        registration = client.register_worker(QUEUE, worker_id=WORKER, max_concurrency=COUNT)

        done = threading.Event()
        answers: list[HeartbeatResult] = []
        beating = threading.Thread(
            target=lambda: answers.append(
                keep_beating(client, registration.heartbeat_seconds, done)
            )
        )
        beating.start()
        completed = 0
        with client.process_jobs() as stream:
            stream.dequeue(
                QUEUE, WORKER, batch_size=COUNT, lease_seconds=registration.lease_seconds
            )
            for answer in stream:
                if isinstance(answer, Job):
                    stream.complete(answer, result=answer.payload)
                    print("completed:", answer.payload)
                elif isinstance(answer, JobCompleted):
                    completed += 1
                if completed == COUNT:
                    stream.done_writing()
        done.set()
        beating.join()
        client.deregister_worker(WORKER)
        [last] = answers
        print(f"heartbeat acknowledged: {last.acknowledged}, asked to drain: {last.should_drain}")


if __name__ == "__main__":
    main()
