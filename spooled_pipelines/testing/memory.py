"""A server in memory, and the client of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from spooled_pipelines.client import SpooledClient
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc.settings import ConnectionSettings
from spooled_pipelines.server.embedded.memory_server import MemoryServer
from spooled_pipelines.testing.clock import MovableClock

# The clients of open servers, innermost last: `run_jobs` uses the last by default.
_open: list[MemoryClient] = []


class MemoryClient(SpooledClient):
    """A client of a server in memory.

    Attributes:
        settings: what other clients of the server take.
        clock: for workers whose time `skip` moves as well: ``Worker(client, ..., clock=...)``.
    """

    def __init__(self, served: MemoryServer) -> None:
        self._served = served
        self.clock = MovableClock()
        settings = ConnectionSettings(served.address, api_key=served.api_key, tls=False)
        super().__init__(settings)

    def skip(self, seconds: float) -> None:
        """Move the server's clock forward, so that what falls due by that happens at once.

        Leases run out, retries and scheduled jobs come due, batches and keys get older. Workers
        that were given `clock` skip the time as well: their pauses, heartbeats and time-outs.

        Raises:
            InvalidArgumentError: it is below 0; time goes one way.
        """
        if seconds < 0:
            raise InvalidArgumentError(f"seconds must be 0 or more, got {seconds}")
        self._served.skip(seconds)
        self.clock.advance(seconds)


@contextmanager
def server(*, batch_extension: bool = True) -> Iterator[MemoryClient]:
    """Yield a client of a real server in this process, over a store in memory.

    Nothing is written to the disk, and nothing is left at the end. It speaks over a port of this
    machine, so that workers, asyncio clients (``AsyncSpooledClient(client.settings)``) and other
    processes can use it as well.

    Args:
        batch_extension: False answers as a server that knows ``spooled.v1`` alone.
    """
    served = MemoryServer(batch_extension=batch_extension)
    served.start()
    try:
        with MemoryClient(served) as client:
            _open.append(client)
            try:
                yield client
            finally:
                _open.remove(client)
    finally:
        served.stop()


def innermost() -> SpooledClient:
    """Return the client of the server that was opened last.

    Raises:
        InvalidArgumentError: there is none.
    """
    if not _open:
        raise InvalidArgumentError(
            "no server is open: call this within `with spooled_pipelines.testing.server()`, or "
            "pass client="
        )
    return _open[-1]
