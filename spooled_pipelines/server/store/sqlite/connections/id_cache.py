"""Numbers of organizations and queues, names of queues and batches: read once, remembered."""

from __future__ import annotations

import json
import sqlite3

from spooled_pipelines.server.core.ids import numbers_of_a_new_organization
from spooled_pipelines.server.core.runtime.notifier import QualifiedName
from spooled_pipelines.server.store.limits import QUEUES_MAX, refuse_beyond, too_many
from spooled_pipelines.server.store.sqlite.queries import SQL


class IdCache:
    """What is made is made in the transaction that asks, so that a rollback forgets everything."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._organizations: dict[str, int] = {}
        self._queues: dict[tuple[int, str], int] = {}
        self._queue_topics: dict[int, QualifiedName] = {}
        self._key_names: dict[int, str] = {}
        self._batch_topics: dict[int, QualifiedName] = {}

    def forget(self) -> None:
        """Forget everything: after a rollback what was just made may be gone."""
        self._organizations.clear()
        self._queues.clear()
        self._queue_topics.clear()
        self._key_names.clear()
        self._batch_topics.clear()

    def organization(self, name: str) -> int:
        """Return the organization's number; make the organization if it is not there."""
        number = self._organizations.get(name)
        if number is None:
            row = self._connection.execute(SQL["find_organization"], (name,)).fetchone()
            number = self._new_organization(name) if row is None else int(row[0])
            self._organizations[name] = number
        return number

    def queue(self, organization: int, name: str) -> int:
        """Return the queue's number; make the queue if it is not there."""
        number = self.known_queue(organization, name)
        if number is None:
            counted = self._connection.execute(SQL["count_queues_of_organization"], (organization,))
            if counted.fetchone()[0] >= QUEUES_MAX:
                raise too_many("queues", QUEUES_MAX)
            number = self._number(SQL["find_queue"], SQL["add_queue"], (organization, name))
            self._queues[organization, name] = number
        return number

    def known_queue(self, organization: int, name: str) -> int | None:
        """Return the queue's number; None where there is no such queue."""
        number = self._queues.get((organization, name))
        if number is None:
            row = self._connection.execute(SQL["find_queue"], (organization, name)).fetchone()
            if row is not None:
                number = self._queues[organization, name] = int(row[0])
        return number

    def key_name(self, queue: int) -> str:
        """Return the name that the keys of a queue's rows are made of."""
        if queue not in self._key_names:
            row = self._connection.execute(SQL["read_key_name"], (queue,)).fetchone()
            self._key_names[queue] = row[0]
        return self._key_names[queue]

    def queue_topic(self, queue: int) -> QualifiedName:
        """Return the organization and the name of a queue."""
        if queue not in self._queue_topics:
            row = self._connection.execute(SQL["read_queue_names"], (queue,)).fetchone()
            self._queue_topics[queue] = row
        return self._queue_topics[queue]

    def batch_topic(self, batch: int) -> QualifiedName:
        """Return the organization and the id of a batch."""
        if batch not in self._batch_topics:
            row = self._connection.execute(SQL["read_batch_names"], (batch,)).fetchone()
            self._batch_topics[batch] = row
        return self._batch_topics[batch]

    def forget_batch(self, batch: int) -> None:
        """Forget a batch that is gone."""
        self._batch_topics.pop(batch, None)

    def _new_organization(self, name: str) -> int:
        values = (json.dumps(numbers_of_a_new_organization()), name)
        number = int(self._connection.execute(SQL["add_organization"], values).lastrowid or 0)
        refuse_beyond(number)
        self._connection.execute(SQL["add_places"], (number,))
        return number

    def _number(self, find: str, add: str, values: tuple[str | int, ...]) -> int:
        row = self._connection.execute(find, values).fetchone()
        if row is None:
            self._connection.execute(add, values)
            row = self._connection.execute(find, values).fetchone()
        return int(row[0])
