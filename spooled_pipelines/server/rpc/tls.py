"""The server's certificates, read again when their files change: no restart is needed."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")
_log = logging.getLogger(__name__)
# When a file was changed, its size, and which file it is.
_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class CertificateFiles:
    """Paths of PEM files.

    They hold the server's chain, its private key, and the authority of clients where these must
    present a certificate.
    """

    chain: Path
    key: Path
    client_authority: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        given = (self.chain, self.key, self.client_authority)
        return tuple(path for path in given if path is not None)


class _Latest(Generic[T]):
    """What was made of the files when they were last valid."""

    def __init__(self, files: CertificateFiles, make: Callable[[CertificateFiles], T]) -> None:
        self._files = files
        self._make = make
        self._stamps = _stamps(files)
        self._refused: tuple[_Stamp, ...] | str | None = None
        self.made = make(files)

    def newer(self) -> T | None:
        """Return what is made of the files where they changed; None: they are as before."""
        try:
            stamps = _stamps(self._files)
            if stamps in (self._stamps, self._refused):
                return None
            made = self._make(self._files)
            if _stamps(self._files) != stamps:
                # Being written right now; the next connection finds them whole.
                return None
        except (OSError, ValueError) as error:
            self._refuse(error)
            return None
        self._stamps, self._refused, self.made = stamps, None, made
        _log.info("certificates were read again: %s", self._files.chain)
        return made

    def _refuse(self, error: OSError | ValueError) -> None:
        """Log once what is wrong with the files as they are now."""
        try:
            seen: tuple[_Stamp, ...] | str = _stamps(self._files)
        except OSError as missing:
            seen = str(missing)
        if seen != self._refused:
            self._refused = seen
            _log.error("new certificates were refused; the old ones stay in use: %s", error)


class Certificates:
    """Certificates for gRPC: each connection gets the files as they were last valid.

    OSError or ValueError where the first ones are not valid.
    """

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self._latest = _Latest(files, _for_grpc)

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a port is opened with. Open connections stay as they are."""
        return grpc.dynamic_ssl_server_credentials(
            self._latest.made,
            # Called in a thread of gRPC's own, for each new connection. It asks for None where
            # nothing changed; its stubs do not know that.
            self._latest.newer,  # type: ignore[arg-type]
            require_client_authentication=self._files.client_authority is not None,
        )


class HttpCertificates(ssl.SSLContext):
    """Certificates for Python's own TLS: what a port is opened with.

    Each connection is made by the context of the files as they are. Tickets and cached sessions are
    known to the context that gave them, so none outlives a change of the client authority.
    """

    _latest: _Latest[ssl.SSLContext]

    @classmethod
    def of(cls, files: CertificateFiles) -> Self:
        """Return the certificates of these files. Open connections stay as they are."""
        made = cls(ssl.PROTOCOL_TLS_SERVER)
        made._latest = _Latest(files, _context)
        return made

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """Begin a connection, as asyncio does for each that it accepts."""
        self._latest.newer()
        return self._latest.made.wrap_bio(*arguments, **options)


def _stamps(files: CertificateFiles) -> tuple[_Stamp, ...]:
    found = [path.stat() for path in files.paths]
    return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found)


def _for_grpc(files: CertificateFiles) -> grpc.ServerCertificateConfiguration:
    """Return the content of the files; ValueError where gRPC could not use it without a word."""
    chain, key = files.chain.read_bytes(), files.key.read_bytes()
    authority = files.client_authority.read_bytes() if files.client_authority else None
    _context(files)
    return grpc.ssl_server_certificate_configuration([(key, chain)], authority)


def _context(files: CertificateFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An encrypted key is refused, where OpenSSL would ask the terminal for its password.
        context.load_cert_chain(files.chain, files.key, password=lambda: b"")
    except ssl.SSLError as error:
        raise ValueError(
            f"tls_cert {files.chain} and tls_key {files.key} are not the PEM files of a "
            f"certificate and its unencrypted private key ({_reason(error)})"
        ) from error
    if files.client_authority is not None:
        try:
            context.load_verify_locations(files.client_authority)
        except ssl.SSLError as error:
            raise ValueError(
                f"tls_client_ca {files.client_authority} is not a PEM file of certificates "
                f"({_reason(error)})"
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "no PEM").replace("_", " ").lower()
