"""One of several programs that use a file: does what it is told on stdin, and answers in JSON."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Any

from spooled_pipelines import SpooledClient, connect, errors


def rows(count: int, name: str) -> list[dict[str, Any]]:
    return [{"number": number, "of": name} for number in range(count)]


def enqueue(client: SpooledClient, count: int, name: str) -> dict[str, Any]:
    batch = client.enqueue_batch(rows(count, name), "q", name=name)
    return {"created": batch.created, "duplicates": batch.duplicates, "id": batch.id}


def finish(client: SpooledClient, batch_id: str) -> dict[str, bool]:
    """Do jobs until this batch has none left, in small lots, so that there is much to interrupt."""
    while not _settled(client, batch_id):
        # Whether a claim that was cut short has got jobs nobody knows, so it is not repeated by
        # itself: what it got comes back when its lease runs out.
        with contextlib.suppress(errors.UnavailableError, errors.LeaseLostError):
            for job in client.dequeue("q", f"w-{os.getpid()}", batch_size=20, lease_seconds=5):
                client.complete(job, result={"number": job.payload["number"]})
    return {"finished": True}


def _settled(client: SpooledClient, batch_id: str) -> bool:
    with contextlib.suppress(errors.UnavailableError):
        return client.batch(batch_id).stats().settled
    return False


def watch(client: SpooledClient, batch_id: str) -> dict[str, int]:
    stats = client.batch(batch_id).wait(timeout=120)
    return {"completed": stats.completed, "total": stats.total}


def fork(_: SpooledClient) -> dict[str, int]:
    """A child that lives on, and knows nothing of what it inherited."""
    child = os.fork()
    if child == 0:
        # It must not answer in its parent's place.
        os.closerange(0, 3)
        time.sleep(60)
        os._exit(0)
    return {"child": child}


def total(client: SpooledClient) -> dict[str, int]:
    return {"total": client.queue_stats("q").total}


def serves(client: SpooledClient) -> dict[str, bool]:
    file = client._file
    return {"serves": file is not None and file.serves}


COMMANDS = {f.__name__: f for f in (enqueue, finish, watch, fork, total, serves)}


def main() -> None:
    client = connect(sys.argv[1])
    print(json.dumps(serves(client)), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        # Said before it is done, so that it can be interrupted in the middle.
        print(json.dumps({"begins": name}), flush=True)
        print(json.dumps(COMMANDS[name](client, *arguments)), flush=True)
    client.close()


if __name__ == "__main__":
    main()
