"""Everything that `serve` can be told, by the name that it has in a config file.

The flag is the name with dashes, the variable is SPOOLED_SERVER_ and the name in capitals.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from spooled_pipelines.server.config.settings import ConnectionLimits, ServerSettings
from spooled_pipelines.server.core.retention import seconds_of

UNLIMITED = "unlimited"
_SERVER = ServerSettings()
_CONNECTIONS = ConnectionLimits()


def _unlimited_is_none(value: Any) -> Any:
    return None if value == UNLIMITED else value


def _words(value: Any) -> Any:
    """A variable holds several values with blanks between them."""
    return value.split() if isinstance(value, str) else value


def _duration(value: str) -> str:
    seconds_of(value)
    return value


Limit = BeforeValidator(_unlimited_is_none)
Rate = Annotated[float | None, Field(gt=0, allow_inf_nan=False), Limit]
Quota = Annotated[int | None, Field(ge=0), Limit]
MaxAge = Annotated[float | None, Limit]
Keys = Annotated[list[SecretStr], BeforeValidator(_words)]
Words = Annotated[list[str], BeforeValidator(_words)]
Duration = Annotated[str, AfterValidator(_duration)]


class OrganizationOptions(BaseModel):
    """The limits of one organization; what is not said is as for all."""

    model_config = ConfigDict(extra="forbid")

    rate_limit: Rate = None
    daily_quota: Quota = None


class Options(BaseModel):
    """All of them, at their defaults unless given."""

    model_config = ConfigDict(extra="forbid")

    listen: str = _SERVER.listen
    store: SecretStr = SecretStr(_SERVER.store)
    store_file: str | None = None
    api_key: Keys = []
    api_key_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    wrong_keys_per_minute: int = _SERVER.wrong_keys_per_minute
    rate_limit: Rate = None
    daily_quota: Quota = None
    organizations: dict[str, OrganizationOptions] = {}
    max_message_bytes: int = _CONNECTIONS.max_message_bytes
    max_streams: int = _CONNECTIONS.max_streams
    max_metadata_bytes: int = _CONNECTIONS.max_metadata_bytes
    max_idle_seconds: float = _CONNECTIONS.max_idle_seconds
    keepalive_seconds: float = _CONNECTIONS.keepalive_seconds
    min_ping_seconds: float = _CONNECTIONS.min_ping_seconds
    max_age_seconds: MaxAge = None
    require_lease_id: bool = _SERVER.require_lease_id
    batch_extension: bool = _SERVER.batch_extension
    keep_settled: Duration | None = None
    keep_keys: Duration | None = None
    keep_batches: Duration | None = None
    keep_dead_letters: Duration | None = None
    metrics: str | None = None
    http: str | None = None
    http_frame_ancestors: Words = []
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    grace_seconds: float = _SERVER.grace_seconds


# Never shown as they are.
SECRETS = frozenset({"api_key", "store"})
# A file that holds the value, in place of the value itself.
FILES = {"api_key_file": "api_key", "store_file": "store"}
# What only a file can say, since it is more than one value.
TABLES = frozenset({"organizations"})
