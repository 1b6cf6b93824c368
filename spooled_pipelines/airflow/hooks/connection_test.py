"""The Test button of Airflow's connection form: whether the server can be used, and why not."""

from __future__ import annotations

import logging
from dataclasses import replace
from time import monotonic

from spooled_pipelines.client.key_permissions import check_permission
from spooled_pipelines.client.sync.client import SpooledClient
from spooled_pipelines.errors import (
    AuthenticationError,
    DeadlineExceededError,
    PermissionDeniedError,
    SpooledError,
    UnavailableError,
)
from spooled_pipelines.rpc.connection_diagnosis import PROBLEMS
from spooled_pipelines.rpc.retry import RetryPolicy
from spooled_pipelines.rpc.settings import ConnectionSettings
from spooled_pipelines.wire.methods import QUEUE

_log = logging.getLogger(__name__)
BUDGET_SECONDS = 5.0
# Any name works: the statistics of a queue without jobs are all zero.
_QUEUE = "connection-test"

# What to change in Airflow's connection form, by the reason why the server cannot be reached.
_ADVICE = {
    "server_without_tls": "Set TLS to off, or check the port.",
    "client_without_tls": "Set TLS to on.",
    "tls_name": "Set the server name to the one in it.",
    "tls_untrusted": "Set the CA certificates.",
    "tls_material": "Set the certificate and key files again.",
    "tls_handshake": "Check the TLS fields of this connection.",
    "tls_client_certificate": "Set the client certificate and its key.",
    "not_grpc": "Check the port.",
    "no_such_host": "Check the host.",
    "unreachable": "Check host and port, and that it runs.",
    "connection_lost": "Try again.",
    "not_serving": "Try again, or look into the log of the servers.",
}
# gRPC gives a connection up that says nothing, at about the time at which the call's budget ends.
_SILENT = (
    f"does not answer within {BUDGET_SECONDS:g} s. Check host and port, and whether a firewall "
    "blocks the connection."
)


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
        return False, f"{where} does not accept this API key. Copy it again, or create another."
    except PermissionDeniedError as error:
        return False, f"{where} knows the API key, but gives it no permission: {error.message}"
    except UnavailableError as error:
        if error.reason == "silent":
            return False, f"{where} {_SILENT}"
        if error.reason not in _ADVICE:
            return False, error.message
        return False, f"{where} {PROBLEMS[error.reason]}. {_ADVICE[error.reason]}"
    except DeadlineExceededError:
        return False, f"{where} {_SILENT}"
    except SpooledError as error:
        if error.reason != "pem":
            return False, error.message
        # A user who may test connections is not to learn which files this machine has.
        _log.warning("a connection cannot be tested: %s", error.message)
        return False, "TLS: a file of this connection has no PEM to read; the log says more."
    if not may_enqueue:
        return False, (
            f"{where} accepts the API key, which has no permission to enqueue (it can be used to "
            "wait and to read). Take a key with the role produce or admin."
        )
    some = ", which is limited to some queues" if limited else ""
    return True, f"{where} accepts the API key{some}."


def _is_limited(client: SpooledClient) -> bool:
    """Return whether the key is for some queues only."""
    try:
        client.queue_stats(_QUEUE)
    except PermissionDeniedError as error:
        if error.reason == "organization":
            raise
        return True
    return False


def _may_enqueue(client: SpooledClient, seconds: float) -> bool:
    try:
        check_permission(client, QUEUE["Enqueue"], seconds)
    except PermissionDeniedError as error:
        # An operator's key, which looks at each organization, and enqueues in its own alone.
        if error.reason == "organization":
            raise
        return False
    return True
