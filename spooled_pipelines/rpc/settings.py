"""The settings of a connection: immutable, validated, and safe to print."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from spooled_pipelines.errors import AuthenticationError, InvalidArgumentError
from spooled_pipelines.rpc.address import Address, parse_address
from spooled_pipelines.rpc.retry import RetryPolicy

# PEM text, or the path of a file that holds it.
PemSource: TypeAlias = str | Path | bytes
PemField: TypeAlias = Literal["ca", "client_certificate", "client_key"]
BatchExtension: TypeAlias = Literal["auto", "on", "off"]
_BATCH_EXTENSION = ("auto", "on", "off")


@dataclass(frozen=True)
class TLS:
    """How to trust the server, and how to be trusted by it. Each value: a path, or PEM bytes.

    Attributes:
        ca: certificates to trust; None means those that gRPC brings.
        client_certificate: this client's certificate chain, if the server asks for one (mTLS).
        client_key: the private key of that certificate.
        server_name: the name to look for in the server's certificate, if it differs from the
            host in the address.
    """

    ca: PemSource | None = None
    client_certificate: PemSource | None = field(default=None, repr=False)
    client_key: PemSource | None = field(default=None, repr=False)
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.client_certificate is None) != (self.client_key is None):
            missing = "client_key" if self.client_key is None else "client_certificate"
            raise InvalidArgumentError(
                f"TLS: {missing} is missing; a client certificate and its key go together"
            )

    @property
    def inline_client_key(self) -> str | bytes | None:
        """The private key, if it is given as PEM and not by its path."""
        key = self.client_key
        return None if isinstance(key, Path) or not _is_pem(key) else key

    def read_pem(self, field_name: PemField) -> bytes | None:
        """Return the PEM of a field, read from its file if it is given by a path.

        Raises:
            InvalidArgumentError: the file cannot be read, or there is no PEM.
        """
        source: PemSource | None = getattr(self, field_name)
        if source is None:
            return None
        if isinstance(source, bytes):
            data, origin = source, "the bytes given"
        elif _is_pem(source):
            data, origin = str(source).encode(), "the text given"
        else:
            path = Path(source).expanduser()
            origin = str(path)
            try:
                data = path.read_bytes()
            except OSError as error:
                raise InvalidArgumentError(
                    f"TLS: {field_name} cannot be read from {path}: {error.strerror}", reason="pem"
                ) from error
        if b"-----BEGIN" not in data:
            raise InvalidArgumentError(
                f"TLS: {field_name}: no PEM in {origin} (it has no -----BEGIN ...----- line)",
                reason="pem",
            )
        return data


def _is_pem(source: PemSource | None) -> bool:
    return isinstance(source, bytes) or (
        isinstance(source, str) and source.lstrip().startswith("-----BEGIN")
    )


@dataclass(frozen=True)
class ConnectionSettings:
    """Everything that a channel and its calls need to know.

    Attributes:
        address: ``host:port``, ``unix:/path``, ``dns:///host:port``; see `parse_address`.
        api_key: sent with each call; never shown.
        tls: None: on, except to this machine; True or a `TLS`: on; False: off.
        timeout_seconds: how long a unary call may take, retries and waits included. Streams
            have no deadline.
        retry: how often and how fast what is safe to repeat is repeated.
        batch_extension: ``"auto"`` asks the server once whether it speaks it; ``"on"`` takes it
            for granted; ``"off"`` does without.
        rate_limit: the largest number of calls a second, over all threads of a client; below 1 for
            longer pauses. A stream counts when it begins.
        api_key_source: where the key came from, for messages: people must be able to find it.
        address_source: where the address is set, likewise.
        organization: the one that the key has to be for; a server with the batch extension
            refuses the key of another. None: whichever the key is for.
        made_by: who makes batches with it, for people: kept with each batch that it makes.
        file: the file that programs of this machine serve to each other at this address, by its
            real path; None for any other server.
    """

    address: str
    api_key: str = field(repr=False)
    tls: TLS | bool | None = None
    timeout_seconds: float = 30.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    batch_extension: BatchExtension = "auto"
    rate_limit: float | None = None
    api_key_source: str = "the api_key argument"
    address_source: str = "SPOOLED_GRPC_ADDRESS"
    file: str | None = None
    organization: str | None = None
    made_by: str = ""

    def __post_init__(self) -> None:
        parse_address(self.address)
        object.__setattr__(self, "api_key", _checked_key(self.api_key, self.api_key_source))
        if not self.timeout_seconds > 0:
            raise InvalidArgumentError(
                f"timeout_seconds must be more than 0, got {self.timeout_seconds!r}"
            )
        if self.organization is not None and not self.organization.isascii():
            raise InvalidArgumentError(
                f"organization must be a name in ASCII, got {self.organization!r}"
            )
        limit = self.rate_limit
        if limit is not None and (isinstance(limit, bool) or not 0 < limit < float("inf")):
            raise InvalidArgumentError(
                f"rate_limit must be a number of calls a second above 0, got {limit!r}"
            )
        if self.batch_extension not in _BATCH_EXTENSION:
            raise InvalidArgumentError(
                f"batch_extension must be one of {', '.join(_BATCH_EXTENSION)}, got "
                f"{self.batch_extension!r}"
            )

    @property
    def name(self) -> str:
        """The address as the user wrote it."""
        return self.address if self.file is None else f"embedded:{self.file}"

    @property
    def endpoint(self) -> Address:
        """The address, parsed."""
        return parse_address(self.address)

    @property
    def tls_material(self) -> TLS | None:
        """The TLS material for the credentials; None for a connection without TLS."""
        if isinstance(self.tls, TLS):
            return self.tls
        wanted = not self.endpoint.is_local if self.tls is None else self.tls
        return TLS() if wanted else None


def _checked_key(key: str, source: str) -> str:
    # A key read from a file often has a line break at its end.
    stripped = key.strip()
    if not stripped:
        raise AuthenticationError(
            f"the API key from {source} is empty.",
            hint="Pass api_key=... or set SPOOLED_API_KEY.",
            reason="no_api_key",
        )
    if not all("!" <= sign <= "~" for sign in stripped):
        raise AuthenticationError(
            f"the API key from {source} holds a character that no key has (a space, a line break, "
            "quotes from another alphabet?): copy it again"
        )
    return stripped
