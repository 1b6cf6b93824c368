"""The sessions of signed-in users: in this server's memory, and no longer than their key."""

from __future__ import annotations

import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from spooled_pipelines.server.auth import ApiKeys, Caller, peer_of
from spooled_pipelines.server.config.settings import hash_key
from spooled_pipelines.server.core.runtime.clock import Clock

# Beyond these the longest unused are signed out: of the same key, or in all, then of the
# organization that has the most.
SESSIONS_OF_KEY_MAX = 100
SESSIONS_MAX = 10_000
SESSION_SECONDS = 12 * 3_600


@dataclass
class Session:
    """A browser that is signed in; each of its forms has to bring `token` along."""

    caller: Caller
    ends_at: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    # What the next page says about the last action.
    notice: str = ""

    def take_notice(self) -> str:
        """Return the notice, once."""
        notice, self.notice = self.notice, ""
        return notice


class Sessions:
    """Sessions by the hash of their cookie."""

    def __init__(self, keys: ApiKeys, clock: Clock, count: Callable[[Caller], None]) -> None:
        self._keys = keys
        self._count = count
        self._clock = clock
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def begin(self, key: str, host: str) -> str:
        """Sign in with an API key; return the cookie.

        RefusedError UNAUTHENTICATED, or RESOURCE_EXHAUSTED after too many wrong keys: those of
        the page and those of calls count together. The rate limit counts it as a call.
        """
        caller = self._keys.authenticate([("x-api-key", key)], peer_of(host))
        self._count(caller)
        cookie = secrets.token_urlsafe(32)
        ends_at = self._clock.now() + SESSION_SECONDS * 1000
        self._sessions[hash_key(cookie)] = Session(caller, ends_at)
        self._make_room(caller)
        return cookie

    def find(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie, unless it or its key has expired."""
        if not cookie:
            return None
        digest = hash_key(cookie)
        session = self._sessions.get(digest)
        if session is None:
            return None
        if (
            session.ends_at <= self._clock.now()
            or self._keys.why_invalid(session.caller) is not None
        ):
            del self._sessions[digest]
            return None
        self._sessions.move_to_end(digest)
        return session

    def end(self, cookie: str | None) -> None:
        """Sign out."""
        self._sessions.pop(hash_key(cookie or ""), None)

    def _make_room(self, caller: Caller) -> None:
        of_key = [
            digest
            for digest, session in self._sessions.items()
            if session.caller.digest == caller.digest
        ]
        if len(of_key) > SESSIONS_OF_KEY_MAX:
            del self._sessions[of_key[0]]
        elif len(self._sessions) > SESSIONS_MAX:
            counts = Counter(one.caller.organization for one in self._sessions.values())
            ((largest, _),) = counts.most_common(1)
            del self._sessions[
                next(
                    digest
                    for digest, session in self._sessions.items()
                    if session.caller.organization == largest
                )
            ]
