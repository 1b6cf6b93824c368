"""What one server tells the others over NOTIFY, as text that fits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from spooled_pipelines.server.core.runtime.notifier import CommitEvent, QualifiedName

# PostgreSQL takes payloads below 8000 bytes.
_PAYLOAD_BYTES_MAX = 7_900
_ENTRY_BYTES = 2


def channel(id_prefix: str) -> str:
    """Return the channel of a store: another store in the same database has another one."""
    return "spooled_" + id_prefix.replace("-", "")


def packed(sender: str, changes: CommitEvent) -> Iterator[str]:
    """Return the notices that say this; none where there is nothing to say."""
    entries: list[tuple[str, object]] = [
        *(("q", list(topic)) for topic in sorted(changes.ready_queues)),
        *(("b", list(topic)) for topic in sorted(changes.batches)),
        *(("j", job_id) for job_id in changes.released_jobs),
    ]
    entries += (("c", organization) for organization in sorted(changes.controlled))
    if changes.due is not None:
        entries.append(("d", changes.due))
    if changes.keys:
        entries.append(("k", True))
    # Kept sorted by kind, so that a notice names each kind once.
    notice: dict[str, list[object]] = {}
    room = _PAYLOAD_BYTES_MAX
    for kind, entry in entries:
        size = len(json.dumps(entry)) + _ENTRY_BYTES
        if size > room:
            yield json.dumps([sender, notice])
            notice, room = {}, _PAYLOAD_BYTES_MAX
        notice.setdefault(kind, []).append(entry)
        room -= size
    if notice:
        yield json.dumps([sender, notice])


def beat(sender: str) -> str:
    """Return a notice that says nothing but that it can be heard."""
    return json.dumps([sender, {}])


def unpacked(payload: str) -> tuple[str, CommitEvent]:
    """Return who sent a notice, and what it says; ValueError where it is not one."""
    try:
        return _unpacked(payload)
    # Anybody may send anything.
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError("this is not a notice") from error


def _unpacked(payload: str) -> tuple[str, CommitEvent]:
    sender, notice = json.loads(payload)
    changes = CommitEvent(
        ready_queues=_topics(notice.get("q", ())),
        batches=_topics(notice.get("b", ())),
        released_jobs=list(notice.get("j", ())),
        controlled=set(notice.get("c", ())),
        keys=bool(notice.get("k")),
    )
    for moment in notice.get("d", ()):
        changes.due_at(moment)
    return sender, changes


def _topics(entries: Iterable[list[str]]) -> set[QualifiedName]:
    return {(organization, name) for organization, name in entries}
