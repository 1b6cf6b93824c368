"""The caller of an RPC, as its API key says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum


class Role(str, Enum):
    """What a key is for. Every role but `work` may read; `admin` may do everything."""

    PRODUCE = "produce"
    WORK = "work"
    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True)
class Caller:
    """The caller of an RPC, and what the API key is for.

    `limited_to` None means all queues. An operator may manage the keys of every organization.
    """

    organization: str
    role: Role
    limited_to: frozenset[str] | None
    digest: bytes = field(repr=False)
    is_operator: bool = False
    # Of an operator who looks at another organization, and may change nothing there.
    only_looks: bool = False
    # For the audit.
    key_id: str = ""
    name: str = ""
    peer: str = ""
    # The present names of queues that were renamed, by the earlier ones.
    renamed: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def queues(self) -> frozenset[str] | None:
        """The queues that the key may touch, by their present names; None: all."""
        if self.limited_to is None or not self.renamed:
            return self.limited_to
        return frozenset(self.renamed.get(name, name) for name in self.limited_to)

    def among(self, queue_name: str) -> Sequence[str] | None:
        """Return the queues that a listing is about, whether it names one or not; None: all."""
        if queue_name:
            return [queue_name]
        return None if self.queues is None else sorted(self.queues)
