"""An error in place of the endless wait that gRPC without fork support becomes after a fork."""

from __future__ import annotations

import os

from spooled_pipelines.errors import ConflictError

_used_in: int | None = None


def ensure_grpc_usable() -> None:
    """Record that this process uses gRPC; refuse if its parent did so before the fork.

    Raises:
        ConflictError: this process was forked from one that had opened a channel.
    """
    global _used_in  # noqa: PLW0603  (one fact about the process)
    if _used_in is None:
        _used_in = os.getpid()
    elif _used_in != os.getpid() and not _grpc_handles_forks():
        raise ConflictError(
            f"process {os.getpid()} was forked from process {_used_in}, which had already talked "
            "to a Spooled server, and gRPC cannot go on in such a child. Make the first call only "
            "after the fork, start the child with spawn or forkserver "
            "(multiprocessing.get_context), or set GRPC_ENABLE_FORK_SUPPORT=1 before Python starts."
        )


def _grpc_handles_forks() -> bool:
    from grpc._cython import cygrpc  # type: ignore[attr-defined]  # stubs leave it out

    # Newer releases handle forks unless told not to, and can be asked; older ones only if told to.
    asked = getattr(cygrpc, "is_fork_support_enabled", None)
    if asked is not None:
        return bool(asked())
    return os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "").lower() in ("1", "true", "yes")
