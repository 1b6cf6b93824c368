"""A good caller of another organization, in a process of its own: what does it have to wait?"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import grpc

from spooled_pipelines.wire.spooled_v1 import GetQueueStatsRequest
from tests.support.raw_calls import Caller

if TYPE_CHECKING:
    from typing_extensions import Self

_EVERY_SECONDS = 0.02


class Canary:
    """Asks every 20 ms, from the beginning of the block to its end."""

    def __init__(self, address: str, key: str) -> None:
        self._command = [sys.executable, "-m", __name__, address, key]
        self.asked = 0
        self.failed: list[str] = []
        self.longest_wait = 0.0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "asking\n"
        return self

    def __exit__(self, *_: object) -> None:
        said, _error = self._process.communicate("", timeout=120)
        self.asked, self.longest_wait, self.failed = json.loads(said)


def main(address: str, key: str) -> None:
    asked, longest, failed = 0, 0.0, []
    with Caller(address, key) as caller:
        caller.call(GetQueueStatsRequest(queue_name="good"))
        print("asking", flush=True)
        while not select.select([sys.stdin], [], [], _EVERY_SECONDS)[0]:
            began = time.monotonic()
            try:
                caller.call(GetQueueStatsRequest(queue_name="good"))
            except grpc.RpcError as error:
                failed.append(f"{error.code()}: {error.details()}")
            asked, longest = asked + 1, max(longest, time.monotonic() - began)
    print(json.dumps([asked, longest, failed[:5]]))


if __name__ == "__main__":
    main(*sys.argv[1:])
