"""Who calls, and what the caller may do."""

from spooled_pipelines.server.auth.api_keys import key_id, new_key, organization_name
from spooled_pipelines.server.auth.audit import Audit
from spooled_pipelines.server.auth.authentication import ApiKeys, Metadata
from spooled_pipelines.server.auth.authorization import (
    ACTS,
    LOOKS,
    QUEUE_OF_REQUEST,
    ROLES,
    SEES_PAYLOADS,
    QueueSource,
    authorize_queues,
    check_tables,
)
from spooled_pipelines.server.auth.caller import Caller, Role
from spooled_pipelines.server.auth.failed_auth_limiter import FailedAuthLimiter, peer_host, peer_of
from spooled_pipelines.server.auth.rate_limit import RateLimiter

__all__ = [
    "ACTS",
    "LOOKS",
    "QUEUE_OF_REQUEST",
    "ROLES",
    "SEES_PAYLOADS",
    "ApiKeys",
    "Audit",
    "Caller",
    "FailedAuthLimiter",
    "Metadata",
    "QueueSource",
    "RateLimiter",
    "Role",
    "authorize_queues",
    "check_tables",
    "key_id",
    "new_key",
    "organization_name",
    "peer_host",
    "peer_of",
]
