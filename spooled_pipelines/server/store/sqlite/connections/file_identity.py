"""Whether a path still leads to the file that is open, and to nothing else by another name."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from spooled_pipelines.server.core.errors import MovedStoreError, StoreUnavailableError

_MOUNTS = Path("/proc/self/mountinfo")
# The field of a mount's line that says where it is; blanks are written in octal.
_MOUNT_POINT = 4


class FileIdentity:
    """The store's file and its log as they were when they were opened.

    What is written to a file that was deleted or moved is in no file of that name: it would be
    acknowledged into nothing.
    """

    def __init__(self, path: Path) -> None:
        names = (path, path.with_name(f"{path.name}-wal"))
        self._opened = [(name, inode) for name in names if (inode := _inode(name)) is not None]

    def check(self) -> None:
        """MovedStoreError where a name leads to another file now, or to none."""
        for path, inode in self._opened:
            if _inode(path) != inode:
                raise MovedStoreError(path.name)


def refuse_aliases(path: Path) -> None:
    """StoreUnavailableError where the file has other names, beside which no log would be found."""
    with contextlib.suppress(FileNotFoundError):
        names = path.stat().st_nlink
        if names > 1:
            raise StoreUnavailableError(
                f"{path} has {names} names (hard links): SQLite keeps its log beside one of them, "
                f"and what is there is not found through another. Remove the others; "
                f"`find / -xdev -samefile {path}` lists them"
            )
    if str(path) in _mount_points():
        raise StoreUnavailableError(
            f"{path} is a mount of its own: SQLite keeps its log beside it, which is on another "
            f"disk and gone with the container. Mount the folder, {path.parent}, instead"
        )


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  # a third of the time, and it is done at each commit
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _mount_points() -> set[str]:
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return set()
    points = (line.split(" ")[_MOUNT_POINT] for line in lines)
    return {point.replace("\\040", " ") for point in points}
