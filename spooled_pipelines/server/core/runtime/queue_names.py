"""Names that queues had before they were renamed: they go on meaning the same queue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from spooled_pipelines.server.core.errors import RefusedError, conflict, not_found
from spooled_pipelines.server.core.runtime.notifier import QualifiedName


class EarlierName(NamedTuple):
    """A name that a queue had, the one that it has now, and the one that its keys are made of."""

    organization: str
    earlier: str
    name: str
    key_name: str


class QueueNames:
    """The earlier names of all queues, as of the last `take`, which calls `on_change`."""

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self._on_change = on_change
        self._taken: frozenset[EarlierName] = frozenset()
        # Who has one of these sees what is taken later.
        self._current: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._alike: dict[QualifiedName, list[QualifiedName]] = {}
        self._key_names: dict[QualifiedName, str] = {}

    def take(self, known: Iterable[EarlierName]) -> None:
        """Note all that there are."""
        taken = frozenset(known)
        if taken == self._taken:
            return
        self._taken = taken
        self._alike, self._key_names = {}, {}
        for names in self._current.values():
            names.clear()
        for organization, earlier, name, key_name in sorted(taken):
            self._current[organization][earlier] = name
            alike = self._alike.setdefault((organization, name), [(organization, name)])
            alike.append((organization, earlier))
            self._alike[organization, earlier] = alike
            self._key_names[organization, name] = key_name
        self._on_change()

    def of(self, organization: str) -> Mapping[str, str]:
        """Return the names that queues of an organization have now, by each earlier one."""
        return self._current[organization]

    def alike(self, name: QualifiedName) -> Sequence[QualifiedName]:
        """Return every name of the queue that has or had this one."""
        return self._alike.get(name) or [name]

    def key_name(self, organization: str, name: str) -> str:
        """Return the name that the keys of a queue's rows are made of: its first one."""
        return self._key_names.get((organization, name), name)


def no_queue(name: str) -> RefusedError:
    """Return the refusal where an organization has no queue of this name."""
    return not_found(f"there is no queue {name!r}")


def name_taken(name: str) -> RefusedError:
    """Return the refusal where a queue cannot get the name of another one."""
    return conflict(f"another queue has or had the name {name!r}: take a name that is free")
