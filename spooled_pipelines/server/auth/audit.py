"""The audit: who did what to which target, and which keys were refused, in the log and the store.

What an admin does is kept before it is answered. Refused keys are gathered: those of a minute that
are alike are one entry, and of others there are so many a minute, so that no stranger can fill the
disk. When a key was used is noted once in ten minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from spooled_pipelines.server.auth.authorization import ACTS
from spooled_pipelines.server.auth.caller import Caller, Role
from spooled_pipelines.server.core.errors import RefusedError, StoreUnavailableError
from spooled_pipelines.server.core.key_records import AuditEntry, AuditKind, KeyRecord
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.core.runtime.operator_log import operator_log
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.wire.methods import Method

_log = logging.getLogger(__name__)
_SPARINGLY_MS = 600_000
# Different refusals that are gathered; those beyond are one entry, of "others".
_REFUSALS_MAX = 50
_OTHERS = AuditEntry(
    0, AuditKind.REFUSED, 0, "", "", "", "others", "authenticate", "", "more refused keys"
)
_TARGETS = ("queue_name", "new_name", "batch_id", "job_id", "id")
_TEXT_MAX = 200


class Audit:
    """Keeps the entries of one server.

    Attributes:
        gathered: set while there is something that is not kept yet.
    """

    def __init__(self, store: JobStore, clock: Clock) -> None:
        self.gathered = asyncio.Event()
        self._store = store
        self._clock = clock
        # By what makes two of them alike: an entry with how often it came.
        self._refused: dict[AuditEntry, AuditEntry] = {}
        self._uses: dict[str, int] = {}
        self._noted_uses: dict[str, int] = {}

    async def acted(
        self, caller: Caller, method: Method, request: Any, answer: Any = None, outcome: str = "OK"
    ) -> None:
        """Keep what a caller did, or was refused to do."""
        entry = _entry(caller, method, _target(request, answer), outcome, self._clock.now())
        _say(entry)
        try:
            await self._store.note_audit([entry], {})
        except (RefusedError, StoreUnavailableError) as error:
            # The act itself is done, and the line above says so.
            _log.error("an entry of the audit could not be kept: %s", error)

    def denied(self, caller: Caller, method: Method) -> None:
        """Note that a key is not for such a call."""
        if method.path in ACTS:
            entry = _entry(caller, method, "", "PERMISSION_DENIED", 0)
            self._gather(entry._replace(kind=AuditKind.REFUSED))

    def refused(self, peer: str, key: KeyRecord | None, why: str) -> None:
        """Note that a key was refused: one that is not known, was revoked or has expired."""
        entry = AuditEntry(0, AuditKind.REFUSED, 1, "", "", "", peer, "authenticate", "", why)
        if key is not None:
            entry = entry._replace(
                organization=key.organization, key_id=key.key_id, key_name=key.name
            )
        self._gather(entry)

    def used(self, key: KeyRecord) -> None:
        """Note that a key let somebody in now."""
        now = self._clock.now()
        noted = self._noted_uses.get(key.key_id, key.last_used_at)
        if noted is None or now - noted >= _SPARINGLY_MS:
            self._noted_uses[key.key_id] = self._uses[key.key_id] = now
            self.gathered.set()

    async def flush(self) -> None:
        """Keep what was gathered; RefusedError or StoreUnavailableError where it cannot be."""
        refused, self._refused = self._refused, {}
        uses, self._uses = self._uses, {}
        self.gathered.clear()
        if not (refused or uses):
            return
        try:
            await self._store.note_audit([*refused.values()], uses)
        except BaseException:
            self._uses = uses | self._uses
            for entry in refused.values():
                self._gather(entry, entry.times)
            raise
        for entry in refused.values():
            _say(entry)

    async def flush_at_end(self) -> None:
        """Keep what was gathered, if the store is there."""
        with contextlib.suppress(RefusedError, StoreUnavailableError):
            await self.flush()

    def _gather(self, entry: AuditEntry, times: int = 1) -> None:
        alike = entry._replace(at=0, times=0)
        if alike not in self._refused and len(self._refused) >= _REFUSALS_MAX:
            alike = _OTHERS
        known = self._refused.get(alike, alike._replace(at=self._clock.now()))
        self._refused[alike] = known._replace(times=known.times + times)
        self.gathered.set()


def _entry(caller: Caller, method: Method, target: str, outcome: str, at: int) -> AuditEntry:
    about = (caller.organization, caller.key_id, _printable(caller.name), caller.peer)
    kind = AuditKind.ADMIN if caller.role is Role.ADMIN else AuditKind.OTHER
    return AuditEntry(at, kind, 1, *about, method.name, _printable(target), outcome)


def _printable(text: str) -> str:
    """Return what can be kept and shown of a text that anybody may have sent."""
    return "".join(c if c.isprintable() else "?" for c in text[:_TEXT_MAX])


def _target(request: Any, answer: Any) -> str:
    """Return what the call was about, and what came of it in numbers."""
    # A key in the answer says more than its id.
    named = _named(request, _TARGETS if answer is None else _TARGETS[:-1])
    return ", ".join([*named, *_numbers(answer)])


def _named(request: Any, targets: Sequence[str]) -> Iterator[str]:
    for field, value in request.ListFields():
        if field.name in targets:
            yield value
        elif field.name == "limits":
            yield from _numbers(value)
        elif field.name == "revisions":
            yield f"{len(value)} jobs from {value[0].job_id} on"


def _numbers(message: Any) -> Iterator[str]:
    if not hasattr(message, "ListFields"):
        return
    for field, value in message.ListFields():
        if type(value) in (int, float):
            yield f"{field.name} {value:g}"
        elif field.name == "key":
            yield f"{value.id} {value.name!r} for {value.role} of {value.organization}"


def _say(entry: AuditEntry) -> None:
    who = f"{entry.key_name or entry.key_id or 'an unknown key'} at {entry.peer}"
    often = f" ({entry.times} times)" if entry.times > 1 else ""
    what = " ".join(part for part in (entry.action, entry.target) if part)
    about = {name: value for name, value in entry._asdict().items() if name != "at"}
    operator_log.info(
        "%s: %s: %s%s", who, what, entry.outcome, often, extra={"about": {"audit": about}}
    )
