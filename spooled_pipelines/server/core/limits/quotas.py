"""How many jobs an organization may make in a day, which is one of UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spooled_pipelines.server.core.errors import RefusedError

_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Quotas:
    """Jobs a day; None: as many as it likes.

    Attributes:
        daily: of every organization that is not named.
        organizations: of those that are, in place of it.
    """

    daily: int | None = None
    organizations: Mapping[str, int | None] = field(default_factory=dict)

    def of(self, organization: str) -> int | None:
        """Return how many jobs this organization may create in a day."""
        return self.organizations.get(organization, self.daily)


UNLIMITED = Quotas()


def day_of(moment: int) -> int:
    """Days since the epoch, for a moment in milliseconds since the epoch."""
    return moment // _DAY_MS


def quota_reached(made: int, quota: int, wanted: int, moment: int) -> RefusedError:
    """`wanted` more than the `made` of today do not fit, and none of them was stored.

    Without `retry_after`: that is what tells a quota from a rate.
    """
    minutes = -(-(_DAY_MS - moment % _DAY_MS) // 60_000)
    wanted_text = "this job was not stored"
    if wanted > 1:
        wanted_text = f"of {wanted} new jobs none was stored"
    return RefusedError(
        "RESOURCE_EXHAUSTED",
        f"daily job limit reached ({made}/{quota}): {wanted_text}; the next day begins at 00:00 "
        f"UTC, in {minutes // 60} h {minutes % 60:02} min",
    )
