"""A real Jupyter kernel: cells in, messages out, interrupted as the stop button does it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.manager import KernelManager

if TYPE_CHECKING:
    from typing_extensions import Self

WAIT_SECONDS = 60.0


class Kernel:
    """A kernel in `folder`, with these variables in its environment; a context manager."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._manager = KernelManager(kernel_name="python3")
        self._manager.start_kernel(cwd=str(folder), env={**os.environ, **environment})
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=WAIT_SECONDS)
        # Of all cells together: views of older cells change while newer ones run.
        self.views: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def begin(self, code: str) -> str:
        """Start a cell; returns what its messages are known by."""
        identity: str = self._client.execute(code)
        return identity

    def messages(self, timeout: float = WAIT_SECONDS) -> Iterator[dict[str, Any]]:
        """Whatever the kernel shows, as it comes."""
        deadline = time.monotonic() + timeout
        while True:
            message = self._client.get_iopub_msg(timeout=max(deadline - time.monotonic(), 0.1))
            content = message["content"]
            if message["msg_type"] in ("display_data", "update_display_data") and (
                display_id := content.get("transient", {}).get("display_id")
            ):
                self.views[display_id] = content["data"]
            yield message

    def see(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read on until a message is what is looked for."""
        return next(message for message in self.messages() if condition(message))

    def finish(self, cell: str) -> list[dict[str, Any]]:
        """Read on until the cell has ended; all that was seen meanwhile."""
        seen = []
        for message in self.messages():
            seen.append(message)
            ours = message["parent_header"].get("msg_id") == cell
            if ours and message["content"].get("execution_state") == "idle":
                return seen
        raise AssertionError("a kernel has no end of messages")

    def run(self, code: str) -> list[dict[str, Any]]:
        """Run a cell to its end; an error in it is an AssertionError."""
        seen = self.finish(self.begin(code))
        errors = [message["content"] for message in seen if message["msg_type"] == "error"]
        assert not errors, "\n".join(errors[0]["traceback"])
        return seen

    def press(self, comm_id: str) -> None:
        """What the frontend sends when somebody presses the button that is known by this."""
        click = {"method": "custom", "content": {"event": "click"}}
        message = self._client.session.msg("comm_msg", {"comm_id": comm_id, "data": click})
        self._client.shell_channel.send(message)

    def interrupt(self) -> None:
        """SIGINT to its process."""
        self._manager.interrupt_kernel()


def shown(messages: list[dict[str, Any]], kind: str = "text/html") -> str:
    """What the messages show as this type, one below the other."""
    bundles = [message["content"].get("data", {}) for message in messages]
    return "\n".join(bundle[kind] for bundle in bundles if kind in bundle)
