"""Why a server cannot be reached, and what to do: read from the text that gRPC gives."""

from __future__ import annotations

from dataclasses import dataclass

from spooled_pipelines.rpc.settings import ConnectionSettings

# gRPC says these only before a call has left this machine.
_NOT_CONNECTED = (
    "failed to connect to all addresses",
    "connections to all backends failing",
    "errors resolving",
    "dns resolution failed",
    "name resolution failure",
    "empty address list",
)
# HTTP/2's REFUSED_STREAM: the server says that it did nothing of the call.
_NOT_TAKEN = "received rst_stream with error code 7"
# A server that hangs up at once is not among these: one that is being stopped does so, too.
_PERMANENT = frozenset({"tls_name", "tls_untrusted", "tls_material", "not_grpc"})
_MAX_TEXT = 300


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong.

    Attributes:
        cause: a word for programs.
        message: a sentence for people, with what to do.
        sent: whether a server may have done something of it; False only where it certainly has not.
        permanent: trying again cannot help, something has to be set up differently.
    """

    cause: str
    message: str
    sent: bool = False
    permanent: bool = False


def diagnose(text: str, settings: ConnectionSettings) -> Diagnosis:
    """Reads the text of an UNAVAILABLE status."""
    lowered = text.lower()
    if _NOT_TAKEN in lowered:
        return Diagnosis(
            "too_many_calls",
            f"{settings.address} takes no more calls on this connection at once: make fewer at the "
            f"same time, or raise its max_streams ({_short(text)}).",
        )
    sent = not any(sign in lowered for sign in _NOT_CONNECTED)
    if sent:
        return Diagnosis(
            "connection_lost",
            f"the connection to {settings.name} broke, or the server is not ready "
            f"({_short(text)}).",
            sent=True,
        )
    cause, message = _not_connected(lowered, settings)
    certain = cause in _PERMANENT or "wrong_version_number" in lowered
    return Diagnosis(cause, f"{message} ({_short(text)})", permanent=certain)


def _not_connected(lowered: str, settings: ConnectionSettings) -> tuple[str, str]:
    address = settings.name
    secure = settings.tls_material is not None
    if "wrong_version_number" in lowered:
        return "tls_mismatch", (
            f"{address} answers, but without TLS, and this client speaks TLS: pass tls=False if "
            "the server is meant to be plain."
        )
    if "hostname verification" in lowered:
        return "tls_name", (
            f"{address} shows a certificate for another name: use the name in the certificate as "
            "the address, or say it with TLS(server_name=...)."
        )
    if "certificate_verify_failed" in lowered:
        return "tls_untrusted", (
            f"{address} shows a certificate that is not trusted here: name the authority that "
            "signed it with TLS(ca=...)."
        )
    if "failed to create security handshaker" in lowered:
        return "tls_material", (
            f"the TLS material for {address} cannot be used: a certificate or key is damaged, or "
            "the key does not belong to the certificate."
        )
    if "handshake failed" in lowered:
        return "tls_handshake", f"the TLS handshake with {address} failed."
    if "http1.x server" in lowered or "failed parsing http/2" in lowered:
        return "not_grpc", (
            f"{address} answers, but does not speak gRPC: is this the port of a web server?"
        )
    if "socket closed" in lowered:
        if secure:
            return "tls_client_certificate", (
                f"{address} hangs up right after the TLS handshake: it may ask for a client "
                "certificate (TLS(client_certificate=..., client_key=...))."
            )
        return "tls_mismatch", (
            f"{address} hangs up at once: it may speak TLS, and this client does not: pass "
            "tls=True or a TLS(...)."
        )
    if "resolv" in lowered or "hostname lookup" in lowered:
        return "no_such_host", f"there is no host {address} as far as this machine knows."
    return "unreachable", f"no server answers at {address}. {_how_to_start(settings)}"


def _how_to_start(settings: ConnectionSettings) -> str:
    if settings.file is not None:
        return (
            "The program that served the file has gone, and none has taken over yet: try again, "
            "or see what holds the file."
        )
    if settings.endpoint.is_local:
        return (
            f"Start one with `spooled-pipelines serve --listen {settings.name}`, or name "
            "another address (the address argument, or SPOOLED_GRPC_ADDRESS)."
        )
    return (
        "Check host and port (the address argument, or SPOOLED_GRPC_ADDRESS), that nothing "
        "blocks the way, and that it runs (`spooled-pipelines serve`)."
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_TEXT else line[: _MAX_TEXT - 1] + "…"
