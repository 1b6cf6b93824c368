"""Which batches this process has enqueued for runs, so that none is taken for another one's."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

_REMEMBERED = 10_000


class TakenNames:
    """The names of batches, each with the one call or task run that may enqueue it."""

    def __init__(self) -> None:
        self._owners: OrderedDict[Hashable, Hashable] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: Hashable, owner: Hashable) -> bool:
        """Return whether the name is the owner's from now on, or is so already."""
        with self._lock:
            taken_by = self._owners.setdefault(name, owner)
            while len(self._owners) > _REMEMBERED:
                self._owners.popitem(last=False)
        return taken_by == owner

    def release(self, name: Hashable) -> None:
        """Let another owner take the name."""
        with self._lock:
            self._owners.pop(name, None)
