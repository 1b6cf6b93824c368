"""The Test button of Airflow's connection form: whether the server can be used, and why not."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic

from spooled_pipelines.client.sync.client import SpooledClient
from spooled_pipelines.errors import (
    AuthenticationError,
    DeadlineExceededError,
    InvalidArgumentError,
    PermissionDeniedError,
    SpooledError,
    UnavailableError,
)
from spooled_pipelines.rpc.methods import QUEUE
from spooled_pipelines.rpc.retry import RetryPolicy
from spooled_pipelines.rpc.settings import ConnectionSettings
from spooled_pipelines.wire import spooled_v1

BUDGET_SECONDS = 5.0
# Any name will do: the statistics of a queue that has no jobs are all zero.
_QUEUE = "connection-test"

# By the cause that the client found for a server that it could not reach, in the words of
# Airflow's connection form.
_ADVICE = {
    "tls_mismatch_plain": "hangs up at once: it may speak TLS. Set TLS to on.",
    "tls_mismatch_secure": "answers, but without TLS. Set TLS to off, or check the port.",
    "tls_name": "shows a certificate for another name. Set the server name to the one in it.",
    "tls_untrusted": "shows a certificate that is not trusted here. Set the CA certificates.",
    "tls_material": "cannot be asked: the certificate or key files of this connection are damaged, "
    "or do not belong together.",
    "tls_handshake": "ends the TLS handshake. Check the TLS fields of this connection.",
    "tls_client_certificate": "hangs up after the TLS handshake. It may ask for a client "
    "certificate: set it and its key.",
    "not_grpc": "answers, but does not speak gRPC. Check the port.",
    "no_such_host": "cannot be found: no such host. Check the host.",
    "unreachable": "does not answer: no server there. Check host and port, and that it runs.",
    "connection_lost": "broke the connection off. Try again.",
}


def check_settings(settings: ConnectionSettings) -> tuple[bool, str]:
    """Make two harmless calls within 5 s; return whether they worked, and a sentence why not.

    The sentence holds no secret.
    """
    once = replace(settings, timeout_seconds=BUDGET_SECONDS, retry=RetryPolicy(max_attempts=1))
    where = f"The server at {settings.name}"
    ends = monotonic() + BUDGET_SECONDS
    try:
        with SpooledClient(once) as client:
            limited = _is_limited(client)
            may_enqueue = _may_enqueue(client, max(ends - monotonic(), 0.5))
    except AuthenticationError:
        return False, f"{where} does not accept this API key. Copy it again, or make another."
    except PermissionDeniedError as error:
        return False, f"{where} knows the API key, but gives it no permission: {error.message}"
    except UnavailableError as error:
        cause = str(error.details.get("cause"))
        if cause == "tls_mismatch":
            cause += "_plain" if settings.tls_material is None else "_secure"
        return False, f"{where} {_ADVICE[cause]}" if cause in _ADVICE else error.message
    except DeadlineExceededError:
        return False, (
            f"{where} does not answer within {BUDGET_SECONDS:g} s. Check host and port, and "
            "whether something blocks the way."
        )
    except SpooledError as error:
        return False, error.message
    if not may_enqueue:
        return False, (
            f"{where} accepts the API key, which has no permission to enqueue (it can be used to "
            "wait and to read). Take a key with the role produce or admin."
        )
    some = ", which is limited to some queues" if limited else ""
    return True, f"{where} accepts the API key{some}."


def _is_limited(client: SpooledClient) -> bool:
    """Whether the key is for some queues only."""
    try:
        client.queue_stats(_QUEUE)
    except PermissionDeniedError as error:
        if "for the organization" in error.message:
            raise
        return True
    return False


def _may_enqueue(client: SpooledClient, seconds: float) -> bool:
    # Refused for its empty name, after the key's role has been looked at: nothing is made.
    nothing = spooled_v1.EnqueueRequest()
    try:
        client.calls.unary(QUEUE["Enqueue"], nothing, timeout=seconds, repeatable=True)
    except PermissionDeniedError:
        return False
    except InvalidArgumentError:
        pass
    return True
