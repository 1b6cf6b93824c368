"""What became of one of many calls that are on their way together."""

from __future__ import annotations

from typing import Any, NamedTuple

import grpc


class Arrival(NamedTuple):
    """A call that has ended, with a response or an error.

    Attributes:
        number: the one that it was started with.
        at: when it ended, a reading of `monotonic`.
    """

    number: int
    at: float
    response: Any
    error: grpc.RpcError | None
