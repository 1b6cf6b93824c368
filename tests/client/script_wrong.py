"""A user's script with a mistake in each marked line: one that mypy no longer finds fails the lint.

It is never run: mypy reads it with the tree, in `make lint`.
"""

import spooled_pipelines as sp
from spooled_pipelines.notebook import bulk_enqueue
from spooled_pipelines.worker import Job, Jobs, Worker  # type: ignore[attr-defined]

client = sp.connect(adress="localhost:1")  # type: ignore[call-arg]
batch = client.enqueue_batch([], "q", on_rerunn="fresh")  # type: ignore[call-arg]
client.enqueue_batch([], "q", on_changed="replaced")  # type: ignore[arg-type]
client.open_batch("b", "q", on_lossy=5)  # type: ignore[arg-type]
bulk_enqueue([], "q", max_outstandign=5)  # type: ignore[call-arg]
batch.wait(timeout=[1])  # type: ignore[arg-type]
batch.wait(max_fail=1)  # type: ignore[call-arg]
batch.stats().pendign  # type: ignore[attr-defined]
Worker(client, "q", 5)  # type: ignore[arg-type]


def of_nothing() -> None: ...
def text(job: Job) -> str:
    return ""


async def number(job: Job) -> int:
    return 1


Worker(client, "q", of_nothing)  # type: ignore[arg-type]
Worker(client, "q", text)  # type: ignore[arg-type]
Worker(client, "q", number)  # type: ignore[arg-type]
sp.Bach  # type: ignore[attr-defined]
