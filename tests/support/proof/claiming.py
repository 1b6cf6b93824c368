"""Claimers as processes, which are killed and stopped while they work."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spooled_pipelines.server.config.settings import DEFAULT_ORGANIZATION
from spooled_pipelines.server.core.jobs.records import JobRecord
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.requests import BatchJobs
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire.spooled_v1 import GetQueueStatsRequest
from tests.support import forked, programs
from tests.support.proof import history
from tests.support.proof.claimer import LEASE_SECONDS
from tests.support.raw_calls import Caller
from tests.support.server_process import ServerProcess
from tests.support.store_kit import struct

if TYPE_CHECKING:
    from typing_extensions import Self

QUEUE, BATCH = "q", "b"
_CHUNK_ROWS = 1_000
# Stopped for longer than a lease, so that it wakes with leases that are another's.
_STOPPED_SECONDS = LEASE_SECONDS + 0.5
_RETRIES = 100


@dataclass
class Plan:
    """How much happens. `work_ms` is what a job takes, on average."""

    jobs: int
    claimers: int
    kills: int
    stops: int
    work_ms: int
    pause_seconds: float
    deadline_seconds: float
    seed: int = 1


class Claimers:
    """Some claimers; a context manager that ends all it started."""

    def __init__(self, server: ServerProcess, folder: Path, plan: Plan) -> None:
        self._server, self._folder, self._plan = server, folder, plan
        self._numbers = itertools.count()
        self._running: list[forked.Popen] = []
        self._stack = ExitStack()

    @property
    def files(self) -> list[Path]:
        return sorted(self._folder.glob("*.jsonl"))

    def __enter__(self) -> Self:
        for _ in range(self._plan.claimers):
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.kill()
            process.wait()

    def _start(self) -> None:
        number = next(self._numbers)
        how = ("dequeue", "chunks", "stream")[number % 3]
        arguments = [self._server.address, self._server.api_key, QUEUE, f"w{number}"]
        arguments += [str(self._folder / f"{number}.jsonl"), str(self._plan.work_ms), how]
        command = programs.command("proof.claimer", *arguments)
        with (self._folder / "claimers.log").open("ab") as log:
            self._running.append(forked.Popen(command, stderr=log, env=programs.environment()))

    def disturb(self, chance: random.Random) -> Iterator[None]:
        """Kill or stop one, again and again; another takes the place of one that was killed."""
        plan = self._plan
        acts = ["kill"] * plan.kills + ["stop"] * plan.stops
        chance.shuffle(acts)
        waking: list[tuple[float, forked.Popen]] = []
        while acts or waking:
            time.sleep(chance.uniform(0.5, 1.5) * plan.pause_seconds)
            while waking and waking[0][0] <= time.monotonic():
                waking.pop(0)[1].send_signal(signal.SIGCONT)
            asleep = [process for _, process in waking]
            awake = [process for process in self._running if process not in asleep]
            if acts and awake:
                self._do(acts.pop(), chance.choice(awake), waking)
            yield

    def _do(
        self,
        act: str,
        process: forked.Popen,
        waking: list[tuple[float, forked.Popen]],
    ) -> None:
        assert process.poll() is None, (self._folder / "claimers.log").read_text()
        if act == "stop":
            process.send_signal(signal.SIGSTOP)
            waking.append((time.monotonic() + _STOPPED_SECONDS, process))
            return
        process.kill()
        process.wait()
        self._running.remove(process)
        self._start()


def run(server: ServerProcess, url: str, folder: Path, plan: Plan) -> history.Findings:
    """Enqueue, let it be worked off while claimers die and sleep, and look at what was noted."""
    folder.mkdir()
    with Caller(server.address, server.api_key) as caller:
        enqueue(caller, plan.jobs)
        deadline = time.monotonic() + plan.deadline_seconds
        with Claimers(server, folder, plan) as claimers:
            for _ in claimers.disturb(random.Random(plan.seed)):
                assert time.monotonic() < deadline, "the claimers are too slow"
            while open_jobs(caller):
                assert time.monotonic() < deadline, f"{open_jobs(caller)} jobs are never settled"
                time.sleep(0.1)
        log = (folder / "claimers.log").read_text()
        assert log == "", log
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()
    return history.check(history.read(claimers.files), asyncio.run(records(url)))


def enqueue(caller: Caller, jobs: int) -> None:
    """In one batch."""

    def requests() -> Iterator[batch.EnqueueBatchRequest]:
        opening = batch.OpenBatch(
            batch_id=BATCH, queue_name=QUEUE, upload_id=str(os.getpid()), max_retries=_RETRIES
        )
        yield batch.EnqueueBatchRequest(open=opening)
        for number, start in enumerate(range(0, jobs, _CHUNK_ROWS)):
            places = range(start, min(start + _CHUNK_ROWS, jobs))
            chunk = batch.JobChunk(
                number=number,
                payloads=[struct(n=place) for place in places],
                idempotency_keys=[f"{place:032x}" for place in places],
            )
            yield batch.EnqueueBatchRequest(chunk=chunk)

    outcomes = [answer.outcome for answer in caller.converse("EnqueueBatch", requests())]
    assert sum(outcome.created for outcome in outcomes) == jobs


def open_jobs(caller: Caller) -> int:
    stats = caller.call(GetQueueStatsRequest(queue_name=QUEUE))
    return int(stats.pending + stats.scheduled + stats.processing)


async def records(url: str) -> list[JobRecord]:
    """Every job, read from the store itself, whose counters are right."""
    store = open_store(url, SystemClock())
    await store.open(lambda _: None)
    try:
        assert await store.recount() == []
        found: list[JobRecord] = []
        after: int | None = 0
        while after is not None:
            query = BatchJobs(BATCH, (), after, 1_000, omit_payload=True)
            page = await store.jobs(DEFAULT_ORGANIZATION, query)
            found += page.jobs
            after = page.after
        return found
    finally:
        await store.close()
