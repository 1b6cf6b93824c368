"""Why a server cannot be reached: one table of reasons, read from the text that gRPC gives.

`PROBLEMS` says what is wrong in words that fit every interface; what to change has another name in
Python (here), in the shell's profiles and in Airflow's connection form.
"""

from __future__ import annotations

from dataclasses import dataclass

from spooled_pipelines.rpc.settings import ConnectionSettings
from spooled_pipelines.text import one_line

# Each follows an address.
PROBLEMS = {
    "no_such_host": "cannot be found: there is no host of this name as far as this machine knows",
    "unreachable": "does not answer: no server there takes connections",
    "not_serving": "says that it is not serving: its database is away, or it is being stopped",
    "silent": "takes connections, but then says nothing",
    "server_without_tls": "answers without TLS, but this client expects TLS",
    "client_without_tls": "seems to expect TLS, but this client does not use it",
    "tls_name": "shows a certificate for another name",
    "tls_untrusted": "shows a certificate that is not trusted here",
    "tls_material": "cannot be asked: a certificate or key of this client is damaged, or they do "
    "not belong together",
    "tls_handshake": "ends the TLS handshake",
    "tls_client_certificate": "hangs up after the handshake: it may require a client certificate",
    "not_grpc": "answers, but does not speak gRPC: is this the port of a web server?",
    "connection_lost": "broke the connection off, or is not ready",
    "too_many_calls": "takes no more calls on this connection at the same time",
}
_HINTS = {
    "silent": "Check the port, and whether a proxy or firewall stands between.",
    "server_without_tls": "Pass tls=False if the server is meant to be without TLS.",
    "client_without_tls": "Pass tls=True or a TLS(...).",
    "tls_name": "Use the name in the certificate as the address, or pass TLS(server_name=...).",
    "tls_untrusted": "Name the authority that signed it with TLS(ca=...).",
    "tls_client_certificate": "Pass TLS(client_certificate=..., client_key=...).",
    "too_many_calls": "Make fewer calls at the same time, or raise the server's max_streams.",
}
# gRPC says these only before a call has left this machine.
_NOT_CONNECTED = (
    "failed to connect to all addresses",
    "connections to all backends failing",
    "errors resolving",
    "dns resolution failed",
    "name resolution failure",
    "empty address list",
)
# HTTP/2's REFUSED_STREAM: the server has not begun the call.
_NOT_TAKEN = "received rst_stream with error code 7"
# What gRPC's text contains, in the order in which it is looked for.
_SIGNS = (
    ("wrong_version_number", "server_without_tls"),
    ("hostname verification", "tls_name"),
    ("certificate_verify_failed", "tls_untrusted"),
    ("failed to create security handshaker", "tls_material"),
    ("handshake failed", "tls_handshake"),
    ("before receiving settings frame", "silent"),
    ("backend unhealthy", "not_serving"),
    ("http1.x server", "not_grpc"),
    ("failed parsing http/2", "not_grpc"),
    ("resolv", "no_such_host"),
    ("hostname lookup", "no_such_host"),
)
# Without a server that hangs up at once: one that is being stopped does so, too.
_PERMANENT = frozenset(
    {"server_without_tls", "tls_name", "tls_untrusted", "tls_material", "not_grpc"}
)
_TEXT_CHARACTERS = 300


@dataclass(frozen=True)
class Diagnosis:
    """Why a server cannot be reached.

    Attributes:
        reason: a key of `PROBLEMS`.
        problem: a sentence on what is wrong.
        hint: what to do, in Python.
        sent: whether a server may have done something; False only if it certainly has not.
        permanent: whether trying again cannot help, because a setting has to change.
    """

    reason: str
    problem: str
    hint: str
    sent: bool
    permanent: bool


def diagnose(text: str, settings: ConnectionSettings) -> Diagnosis:
    """Return why a call ended as UNAVAILABLE, from the text of that status."""
    lowered = text.lower()
    if _NOT_TAKEN in lowered:
        reason, sent = "too_many_calls", False
    elif any(sign in lowered for sign in _NOT_CONNECTED):
        reason, sent = _not_connected(lowered, settings), False
    else:
        reason, sent = "connection_lost", True
    # gRPC's way to write an address.
    said = text.replace("%5B", "[").replace("%5D", "]")
    hint = how_to_start(settings) if reason == "unreachable" else _HINTS.get(reason, "")
    return Diagnosis(
        reason,
        f"{settings.name} {PROBLEMS[reason]} ({one_line(said, _TEXT_CHARACTERS)}).",
        hint,
        sent=sent,
        permanent=reason in _PERMANENT,
    )


def _not_connected(lowered: str, settings: ConnectionSettings) -> str:
    if "socket closed" in lowered and not any(sign in lowered for sign, _ in _SIGNS[:9]):
        secure = settings.tls_material is not None
        return "tls_client_certificate" if secure else "client_without_tls"
    return next((reason for sign, reason in _SIGNS if sign in lowered), "unreachable")


def how_to_start(settings: ConnectionSettings) -> str:
    """Return what to do about an address where no server is."""
    if settings.file is not None:
        return (
            "The program that served the file has gone, and no other has taken over yet: try "
            "again, or see what holds the file."
        )
    if settings.endpoint.is_local:
        return (
            f"Start one with `spooled-pipelines serve --listen {settings.name}`, or use another "
            f"address ({settings.address_source})."
        )
    return (
        f"Check host and port ({settings.address_source}), that nothing blocks the way, and that "
        "the server runs (`spooled-pipelines serve`)."
    )
