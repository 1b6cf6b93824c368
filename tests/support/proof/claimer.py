"""A worker that notes all it sees, to be stopped and killed: `claimer.py ADDRESS KEY QUEUE WORKER
HISTORY WORK_MS HOW` (HOW is "dequeue", "stream" or "chunks").

Each line of the history is written whole before anything else is done, so that a killed claimer
leaves a true one: a lease that it was given, a settle that it tries, the answer it got.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import grpc

from spooled_pipelines.wire.batch_v1 import (
    ChunkOutcomes,
    ClaimChunksRequest,
    Failure,
    JobException,
    RenewChunkRequest,
    SettleRequest,
)
from spooled_pipelines.wire.spooled_v1 import (
    CompleteRequest,
    DequeueRequest,
    FailRequest,
    Job,
    RenewLeaseRequest,
    StreamJobsRequest,
)
from spooled_pipelines.wire.well_known import Struct, Timestamp
from tests.support.raw_calls import Caller

LEASE_SECONDS = 5
# How often a claimer does something else than to complete its job in time.
ODDS = {"fail": 0.04, "renew": 0.06, "late": 0.04, "forget": 0.01}
LATE_SECONDS = LEASE_SECONDS + 0.2


def milliseconds(moment: Timestamp) -> int:
    return int(moment.seconds * 1000 + moment.nanos // 1_000_000)


class Claimer:
    """Takes jobs and settles them, mostly."""

    def __init__(self, caller: Caller, queue: str, worker: str, history: str, work_ms: int) -> None:
        self.caller, self.queue, self.worker = caller, queue, worker
        self.file = os.open(history, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.work_ms = work_ms
        self.random = random.Random(worker)
        # Jobs to be settled when their lease has run out, and when that is.
        self.late: list[tuple[float, Job]] = []

    def note(self, **facts: Any) -> None:
        os.write(self.file, json.dumps(facts).encode() + b"\n")

    def run(self, jobs: Iterator[Job]) -> None:
        for job in jobs:
            self.note_claim(job)
            time.sleep(self.random.random() * self.work_ms / 500)
            self.handle(job)
            while self.late and self.late[0][0] <= time.monotonic():
                self.settle(self.late.pop(0)[1], "complete")

    def run_chunks(self) -> None:
        """Settle some of each chunk together, and the others as if they had come alone."""
        while True:
            jobs = self.claim_chunk()
            for job in jobs:
                self.note_claim(job)
            together = self.random.randint(0, len(jobs))
            time.sleep(self.random.random() * self.work_ms * len(jobs) / 500)
            if together:
                self.settle_together(jobs[:together])
            for job in jobs[together:]:
                self.handle(job)
            while self.late and self.late[0][0] <= time.monotonic():
                self.settle(self.late.pop(0)[1], "complete")
            if not jobs:
                time.sleep(0.1)

    def note_claim(self, job: Job) -> None:
        leased = milliseconds(job.started_at), milliseconds(job.lease_expires_at)
        self.note(what="claim", job=job.id, lease=job.lease_id, start=leased[0], end=leased[1])

    def handle(self, job: Job) -> None:
        (way,) = self.random.choices([*ODDS, "complete"], [*ODDS.values(), 1 - sum(ODDS.values())])
        if way == "late":
            self.late.append((time.monotonic() + LATE_SECONDS, job))
        elif way == "renew":
            self.settle(job, "renew")
            self.settle(job, "complete")
        elif way != "forget":
            self.settle(job, way)

    def settle(self, job: Job, act: str) -> None:
        holder: dict[str, Any] = {
            "job_id": job.id,
            "worker_id": self.worker,
            "lease_id": job.lease_id,
        }
        request: Any
        if act == "complete":
            result = Struct()
            result["lease"] = job.lease_id
            request = CompleteRequest(**holder, result=result)
        elif act == "fail":
            request = FailRequest(**holder, error=job.lease_id, retry=False)
        else:
            request = RenewLeaseRequest(extension_secs=LEASE_SECONDS, **holder)
        self.note(what="try", act=act, job=job.id, lease=job.lease_id)
        end, code = None, "OK"
        try:
            answer = self.caller.call(request)
            if act == "renew":
                end = milliseconds(answer.new_expires_at)
        except grpc.RpcError as error:
            code = error.code().name
        self.note(what="answer", act=act, job=job.id, lease=job.lease_id, code=code, end=end)

    def settle_together(self, jobs: list[Job]) -> None:
        held: dict[str, Any] = {
            "queue_name": self.queue,
            "worker_id": self.worker,
            "lease_id": jobs[0].lease_id,
            "job_ids": [job.id for job in jobs],
        }
        if self.random.random() < ODDS["renew"]:
            renewal = RenewChunkRequest(extension_secs=LEASE_SECONDS, **held)
            self.note_tries(jobs, ["renew"] * len(jobs))
            try:
                renewed = self.caller.call(renewal)
            except grpc.RpcError as error:
                self.note_answers(jobs, ["renew"] * len(jobs), [error.code().name] * len(jobs))
            else:
                lost = set(renewed.lost)
                codes = ["FAILED_PRECONDITION" if at in lost else "OK" for at in range(len(jobs))]
                end = milliseconds(renewed.new_expires_at)
                self.note_answers(jobs, ["renew"] * len(jobs), codes, end)
        result = Struct()
        result["lease"] = jobs[0].lease_id
        acts = ["fail" if self.random.random() < ODDS["fail"] else "complete" for _ in jobs]
        failure = Failure(error=jobs[0].lease_id, final=True)
        outcomes = ChunkOutcomes(
            **held,
            results=[result.SerializeToString()] * len(jobs),
            exceptions=[
                JobException(index=at, failed=failure)
                for at, act in enumerate(acts)
                if act == "fail"
            ],
        )
        self.note_tries(jobs, acts)
        try:
            answer = next(self.caller.converse("Settle", [SettleRequest(chunks=[outcomes])]))
        except grpc.RpcError as error:
            codes = [error.code().name] * len(jobs)
        else:
            said = {each.index: each.settled.code for each in answer.chunks[0].exceptions}
            codes = ["FAILED_PRECONDITION" if said.get(at) else "OK" for at in range(len(jobs))]
        self.note_answers(jobs, acts, codes)

    def note_tries(self, jobs: list[Job], acts: list[str]) -> None:
        for job, act in zip(jobs, acts, strict=True):
            self.note(what="try", act=act, job=job.id, lease=job.lease_id)

    def note_answers(
        self, jobs: list[Job], acts: list[str], codes: list[str], end: int | None = None
    ) -> None:
        for job, act, code in zip(jobs, acts, codes, strict=True):
            self.note(what="answer", act=act, job=job.id, lease=job.lease_id, code=code, end=end)

    def claim_chunk(self) -> list[Job]:
        request = ClaimChunksRequest(
            queue_name=self.queue,
            worker_id=self.worker,
            lease_duration_secs=LEASE_SECONDS,
            max_jobs=self.random.randint(1, 20),
        )
        return [
            Job(
                id=job_id,
                lease_id=chunk.lease_id,
                started_at=chunk.started_at,
                lease_expires_at=chunk.lease_expires_at,
            )
            for chunk in self.caller.call(request).chunks
            for job_id in chunk.job_ids
        ]

    def dequeued(self) -> Iterator[Job]:
        while True:
            request = DequeueRequest(
                queue_name=self.queue,
                worker_id=self.worker,
                lease_duration_secs=LEASE_SECONDS,
                batch_size=self.random.randint(1, 10),
            )
            jobs = self.caller.call(request).jobs
            yield from jobs
            if not jobs:
                time.sleep(0.1)

    def streamed(self) -> Iterator[Job]:
        request = StreamJobsRequest(
            queue_name=self.queue, worker_id=self.worker, lease_duration_secs=LEASE_SECONDS
        )
        yield from self.caller.stream(request)


def main() -> None:
    address, key, queue, worker, history, work_ms, how = sys.argv[1:]
    with Caller(address, key) as caller:
        claimer = Claimer(caller, queue, worker, history, int(work_ms))
        if how == "chunks":
            claimer.run_chunks()
        claimer.run(claimer.dequeued() if how == "dequeue" else claimer.streamed())


if __name__ == "__main__":
    main()
