"""The settings of a server, as one immutable value."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from spooled_pipelines.server.core.jobs.rules import MAX_DELIVERIES
from spooled_pipelines.server.core.limits.quotas import Quotas
from spooled_pipelines.server.core.upkeep.retention import KEEP_ALL, Retention
from spooled_pipelines.wire import limits

DEFAULT_ORGANIZATION = "default"
_GRACE_MAX = 86_400.0
_DELIVERIES_MAX = 10_000
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:\d{1,5})?", re.IGNORECASE)


@dataclass(frozen=True)
class HashedKey:
    """An API key of one organization, as its sha256: keys have entropy enough for one hash."""

    organization: str
    digest: bytes = field(repr=False)


class NoKeysError(ValueError):
    """A server that would have no API key, and so accept nobody."""


@dataclass(frozen=True)
class OrganizationKey:
    """An API key that belongs to a named organization instead of the default one."""

    organization: str
    key: str = field(repr=False)


def shown_store(url: str) -> str:
    """Return a store's URL without what may be a password."""
    scheme, separator, rest = url.partition(":")
    if scheme == "sqlite":
        return url
    if not separator or not re.fullmatch("[A-Za-z0-9+.-]+", scheme):
        # Not a URL: such as host=... password=..., whose password may stand anywhere.
        return "(hidden, and not a URL)"
    place = rest.rpartition("@")[2].removeprefix("//").partition("?")[0]
    return f"{scheme}://{place}"


def host_and_port(address: str, setting: str) -> tuple[str, int]:
    """Return the parts of "HOST:PORT" or "[IPV6]:PORT"; ValueError where it is neither."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"{setting} address must be HOST:PORT, got {address!r}")
    return host, int(port)


def is_local(address: str) -> bool:
    """Return whether only this machine reaches an address."""
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    return address.startswith("unix:") or host in ("localhost", "::1") or host.startswith("127.")


def hash_key(key: str) -> bytes:
    """Return what is kept of a key."""
    return hashlib.sha256(key.encode()).digest()


@dataclass(frozen=True)
class OrganizationLimits:
    """What one organization may do, in place of what the others may.

    Attributes:
        rate_limit: requests a second, bursts of twice that; None: unlimited.
        daily_quota: new jobs a day (of UTC); None: unlimited.
    """

    rate_limit: float | None = None
    daily_quota: int | None = None

    def __post_init__(self) -> None:
        if self.rate_limit is not None and not self.rate_limit > 0:
            raise ValueError(f"rate_limit must be above 0, got {self.rate_limit}")
        if self.daily_quota is not None and self.daily_quota < 0:
            raise ValueError(f"daily_quota must be 0 or more, got {self.daily_quota}")


@dataclass(frozen=True)
class ConnectionLimits:
    """What connections may ask of the server; see `options.OPTIONS`.

    A client holds back the calls that are more than `max_streams`. gRPC's server counts a call for
    a moment longer than its client, so that a burst far above it is refused in part with
    UNAVAILABLE, which our client repeats.
    """

    max_message_bytes: int = limits.MESSAGE_MAX_BYTES
    max_streams: int = 10_000
    max_connections: int = 10_000
    max_connections_per_address: int = 1_000
    max_metadata_bytes: int = 16 << 10
    max_idle_seconds: float = 900.0
    keepalive_seconds: float = 60.0
    min_ping_seconds: float = 5.0
    max_age_seconds: float | None = None

    def __post_init__(self) -> None:
        for name, (least, most) in _CONNECTION_RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name} must be {least} to {most}, got {value}")


# gRPC takes numbers of 32 bits, and times in milliseconds.
_CONNECTION_RANGES: Mapping[str, tuple[int, int]] = {
    # The largest call that the contract allows must fit, and so must our own client's chunks.
    "max_message_bytes": (4 << 20, 2**31 - 1),
    "max_streams": (1, 2**31 - 1),
    "max_connections": (1, 2**31 - 1),
    "max_connections_per_address": (1, 2**31 - 1),
    "max_metadata_bytes": (1 << 10, 2**31 - 1),
    "max_idle_seconds": (1, 2_000_000),
    "keepalive_seconds": (1, 2_000_000),
    "min_ping_seconds": (0, 2_000_000),
    "max_age_seconds": (1, 2_000_000),
}


@dataclass(frozen=True)
class ServerSettings:
    """Where the server listens, what it keeps jobs in, and whom it lets in.

    `options.OPTIONS` says of each what it is for.

    Attributes:
        store: not shown by repr, since it may hold a password.
        api_keys: a plain string is a key of the organization "default". Keys are hashed as soon as
            they get here, so that neither repr nor memory dumps show them.
        organizations: the limits of those that have others, by name.
    """

    listen: str = "127.0.0.1:50051"
    store: str = field(default="sqlite:///spooled.db", repr=False)
    migrate: str = "auto"
    api_keys: tuple[str | OrganizationKey | HashedKey, ...] = ()
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    wrong_keys_per_minute: int = 20
    rate_limit: float | None = None
    daily_quota: int | None = None
    organizations: Mapping[str, OrganizationLimits] = field(default_factory=dict)
    connections: ConnectionLimits = ConnectionLimits()
    require_lease_id: bool = False
    batch_extension: bool = True
    max_deliveries: int = MAX_DELIVERIES
    retention: Retention = KEEP_ALL
    metrics: str | None = None
    http: str | None = None
    http_public_url: str | None = None
    http_frame_ancestors: tuple[str, ...] = ()
    grace_seconds: float = 5.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "api_keys", tuple(_hashed(key) for key in self.api_keys))
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("tls_cert and tls_key go together: give both or none")
        if self.tls_client_ca and not self.tls_cert:
            raise ValueError("tls_client_ca needs tls_cert and tls_key as well")
        if not 0 <= self.grace_seconds <= _GRACE_MAX:
            raise ValueError(f"grace_seconds must be 0 to {_GRACE_MAX:g}, got {self.grace_seconds}")
        if self.wrong_keys_per_minute < 1:
            number = self.wrong_keys_per_minute
            raise ValueError(f"wrong_keys_per_minute must be 1 or more, got {number}")
        if not 1 <= self.max_deliveries <= _DELIVERIES_MAX:
            number = self.max_deliveries
            raise ValueError(f"max_deliveries must be 1 to {_DELIVERIES_MAX}, got {number}")
        for origin in self.http_frame_ancestors:
            _check_origin("http_frame_ancestors", origin)
        if self.http_public_url is not None:
            _check_origin("http_public_url", self.http_public_url)
        _check_addresses(listen=self.listen, metrics=self.metrics, http=self.http)
        # Its own checks.
        OrganizationLimits(self.rate_limit, self.daily_quota)

    @property
    def quotas(self) -> Quotas:
        """How many jobs each organization may make in a day."""
        named = {name: limits.daily_quota for name, limits in self.organizations.items()}
        return Quotas(self.daily_quota, named)

    @property
    def hashed_keys(self) -> tuple[HashedKey, ...]:
        """The keys, all of them hashed."""
        return tuple(key for key in self.api_keys if isinstance(key, HashedKey))


def _check_addresses(**given: str | None) -> None:
    taken: dict[int, tuple[str, str]] = {}
    for setting, address in given.items():
        if address is None or address.startswith("unix:"):
            continue
        host, port = host_and_port(address, setting)
        other, other_host = taken.setdefault(port, (setting, host))
        everywhere = {"0.0.0.0", "::", "*"} & {host, other_host}  # noqa: S104
        if port and other != setting and (host == other_host or everywhere):
            raise ValueError(f"{setting} and {other} have the same port, {port}")


def _check_origin(setting: str, text: str) -> None:
    # It goes into a header, where a blank or a semicolon would have a meaning.
    if not _ORIGIN.fullmatch(text):
        raise ValueError(
            f"{setting} must be scheme, host and port alone, such as "
            f"https://airflow.example.org, got {text!r}"
        )


def _hashed(key: str | OrganizationKey | HashedKey) -> HashedKey:
    if isinstance(key, HashedKey):
        return key
    entry = OrganizationKey(DEFAULT_ORGANIZATION, key) if isinstance(key, str) else key
    # Metadata is ASCII on the wire, so another key could never be presented.
    if not entry.key or not entry.key.isascii() or not entry.key.isprintable():
        raise ValueError("an API key must be printable ASCII and not empty")
    if not entry.organization:
        raise ValueError("an API key's organization is empty")
    return HashedKey(entry.organization, hash_key(entry.key))
