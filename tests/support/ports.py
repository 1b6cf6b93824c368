"""Ports that stay ours until something listens there, and again when it is started once more."""

from __future__ import annotations

import socket
import sys


class HeldPort:
    """A port of this machine that nobody else gets by chance, and that a server may listen on.

    One that was free a moment ago may be another program's by now, of which a run of tests starts
    hundreds. Linux lets a server listen on a port that is bound here as well.
    """

    def __init__(self) -> None:
        self._bound = socket.socket()
        self._bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._bound.bind(("127.0.0.1", 0))
        self.number = int(self._bound.getsockname()[1])
        if sys.platform != "linux":
            self.close()

    def close(self) -> None:
        self._bound.close()

    def __del__(self) -> None:
        self.close()
