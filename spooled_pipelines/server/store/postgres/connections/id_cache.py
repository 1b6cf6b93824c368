"""Numbers of organizations and queues, names of queues and batches: asked for once, remembered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from spooled_pipelines.server.core.ids import numbers_of_a_new_organization
from spooled_pipelines.server.core.runtime.notifier import QualifiedName
from spooled_pipelines.server.store.limits import QUEUES_MAX, refuse_beyond, too_many
from spooled_pipelines.server.store.postgres.connections.database import Connection, fetch

# Beyond this everything is forgotten and asked for again.
_REMEMBERED_MAX = 100_000


class IdCache:
    """What is made is committed at once and never removed, so that what is remembered stays true.

    Every method takes a connection that is in no transaction, but for `topics`.
    """

    def __init__(self) -> None:
        self._organizations: dict[str, int] = {}
        self._queues: dict[QualifiedName, int] = {}
        self._queue_topics: dict[int, QualifiedName] = {}
        self._key_names: dict[int, str] = {}
        self._batch_topics: dict[int, QualifiedName] = {}

    def known_queue(self, organization: str, name: str) -> tuple[int, int] | None:
        """Return the organization's and the queue's number, if they are remembered."""
        queue = self._queues.get((organization, name))
        return None if queue is None else (self._organizations[organization], queue)

    def known_organization(self, name: str) -> int | None:
        """Return the organization's number, if it is remembered."""
        return self._organizations.get(name)

    async def organization(self, connection: Connection, name: str) -> int:
        """Return the organization's number; make the organization if it is not there."""
        number = self._organizations.get(name)
        if number is None:
            numbers = numbers_of_a_new_organization()
            number = await _number(connection, "ensure_organization", name=name, numbers=numbers)
            refuse_beyond(number)
            self._organizations[name] = number
        return number

    async def queue(self, connection: Connection, organization: str, name: str) -> tuple[int, int]:
        """Return the organization's and the queue's number; make what is not there."""
        owner = await self.organization(connection, organization)
        number = self._queues.get((organization, name))
        if number is None:
            rows = await fetch(connection, "count_queues_of_organization", organization=owner)
            there = await self.find_queue(connection, organization, name)
            if there is not None:
                return there
            if rows[0][0] >= QUEUES_MAX:
                raise too_many("queues", QUEUES_MAX)
            number = await _number(connection, "ensure_queue", organization=owner, name=name)
            self._queues[organization, name] = number
            self._queue_topics[number] = (organization, name)
            self._key_names[number] = name
        return owner, number

    async def find_queue(
        self, connection: Connection, organization: str, name: str
    ) -> tuple[int, int] | None:
        """Return the organization's and the queue's number; None where there is no such queue."""
        rows = await fetch(connection, "find_queue", organization=organization, name=name)
        if not rows:
            return None
        owner, number, key_name = rows[0]
        self._organizations[organization] = owner
        self._queues[organization, name] = number
        self._key_names[number] = key_name
        return owner, number

    def key_name(self, queue: int) -> str:
        """Return the name that the keys of a queue's rows are made of; the queue was found."""
        return self._key_names[queue]

    def forget_queue_topics(self) -> None:
        """Forget the names of queues, which may be others now; numbers stay right."""
        self._queue_topics.clear()

    async def queue_topics(
        self, connection: Connection, queues: Iterable[int]
    ) -> dict[int, QualifiedName]:
        """Return the organization and the name of each queue."""
        return await _topics(connection, "read_queue_names", self._queue_topics, queues)

    async def batch_topics(
        self, connection: Connection, batches: Iterable[int]
    ) -> dict[int, QualifiedName]:
        """Return the organization and the id of each batch."""
        return await _topics(connection, "read_batch_names", self._batch_topics, batches)


async def _number(connection: Connection, statement: str, **values: Any) -> int:
    while True:
        rows = await fetch(connection, statement, **values)
        # None where another server makes it at this very moment; then it is there the next time.
        if rows:
            return int(rows[0][0])


async def _topics(
    connection: Connection, statement: str, known: dict[int, QualifiedName], numbers: Iterable[int]
) -> dict[int, QualifiedName]:
    wanted = set(numbers)
    missing = sorted(wanted - known.keys())
    if missing:
        found = await fetch(connection, statement, numbers=missing)
        if len(known) > _REMEMBERED_MAX:
            known.clear()
            found = await fetch(connection, statement, numbers=sorted(wanted))
        known.update((number, (organization, name)) for number, organization, name in found)
    return {number: known[number] for number in wanted}
