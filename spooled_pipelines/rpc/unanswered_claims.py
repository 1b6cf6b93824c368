"""Claims whose answer got lost: what they leased goes back with the next one."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import TypeAlias

from spooled_pipelines.wire import batch_v1, limits, spooled_v1

Claim: TypeAlias = "batch_v1.ClaimChunksRequest | spooled_v1.DequeueRequest"


class UnansweredClaims:
    """Names the leases of a client's claims, and those that nobody knows to be given.

    A server without such names passes over them; there the jobs come back when their leases end.
    """

    def __init__(self) -> None:
        self._leases: dict[tuple[str, str], list[str]] = {}

    @contextlib.contextmanager
    def asking(self, claim: Claim) -> Iterator[None]:
        """Name the lease of a claim that is sent within."""
        self.name(claim)
        try:
            yield
        except BaseException:
            self.note(claim)
            raise

    def name(self, claim: Claim) -> None:
        """Choose the lease of a claim, and let it give back what was claimed without an answer."""
        claim.lease_id = secrets.token_hex(16)
        claim.unanswered.extend(self._leases.pop((claim.queue_name, claim.worker_id), ()))

    def note(self, claim: Claim) -> None:
        """Note that a claim got no answer."""
        leases = self._leases.setdefault((claim.queue_name, claim.worker_id), [])
        leases += [*claim.unanswered, claim.lease_id]
        del leases[: -limits.UNANSWERED_MAX]
