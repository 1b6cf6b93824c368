"""A new API key: what it may be, and what is kept of it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable

from spooled_pipelines.server.auth.caller import Role
from spooled_pipelines.server.config.settings import hash_key
from spooled_pipelines.server.core import validation
from spooled_pipelines.server.core.errors import invalid, no_key, shortened
from spooled_pipelines.server.core.key_records import KeyRecord

_NAME_MAX = 100
_ORGANIZATION_MAX = 100
_QUEUES_MAX = 1_000


def new_key(
    organization: str,
    name: str,
    role: str,
    queues: Iterable[str],
    expires_at: int | None,
    now: int,
    created_by: str = "local",
) -> tuple[KeyRecord, str]:
    """Return what is stored of a new key, and the key itself, which is kept nowhere.

    RefusedError INVALID_ARGUMENT names the argument that is wrong.
    """
    roles = [known.value for known in Role]
    if role not in roles:
        raise invalid(f"role {shortened(role)} is none of {', '.join(roles)}")
    names = tuple(dict.fromkeys(validation.queue_name(queue) for queue in queues))
    if len(names) > _QUEUES_MAX:
        raise invalid(f"queues has {len(names)} names, and at most {_QUEUES_MAX} are allowed")
    if expires_at is not None and expires_at <= now:
        raise invalid("expires_at must be in the future")
    secret = f"sp_live_{secrets.token_urlsafe(32)}"
    record = KeyRecord(
        organization=organization_name(organization),
        key_id=f"key_{secrets.token_hex(8)}",
        name=validation.text("name", name, _NAME_MAX, shortest=1),
        role=role,
        queues=names,
        digest=hash_key(secret),
        created_at=now,
        expires_at=expires_at,
        revoked_at=None,
        created_by=created_by,
    )
    return record, secret


def organization_name(value: str) -> str:
    """Return the organization's name; RefusedError INVALID_ARGUMENT where it cannot be one."""
    if not value.isprintable():
        raise invalid(f"organization {shortened(value)} has characters that cannot be printed")
    return validation.text("organization", value, _ORGANIZATION_MAX, shortest=1)


def key_id(value: str) -> str:
    """Return the id of a key; RefusedError NOT_FOUND where it cannot be one."""
    if not re.fullmatch("key_[0-9a-f]{16}", value):
        raise no_key(value)
    return value
