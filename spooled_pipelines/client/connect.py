"""`connect`, which makes a client."""

from __future__ import annotations

import logging

from spooled_pipelines.client.settings import default_address
from spooled_pipelines.client.sync.client import SpooledClient
from spooled_pipelines.rpc.retry import RetryPolicy
from spooled_pipelines.rpc.settings import TLS, BatchExtension


def connect(
    address: str | None = None,
    *,
    api_key: str | None = None,
    tls: TLS | bool | None = None,
    timeout_seconds: float = 30.0,
    retry: RetryPolicy | None = None,
    batch_extension: BatchExtension = "auto",
    rate_limit: float | None = None,
) -> SpooledClient:
    """Return a client of the server at `address`; use it in a `with`, or close it.

        with connect("localhost:50051", api_key="sp_live_...") as client:
            client.enqueue("emails", {"to": "ada@example.org"})

    No connection is opened before the first call (`wait_for_ready` opens one).

    Args:
        address: ``host:port``, several servers as ``dns:///name:port`` or with commas between
            their IP addresses, ``unix:/path``, or ``embedded:PATH`` for the SQLite file PATH
            with no server to start: the first program of this user that connects serves it to
            the others, and another takes over when it goes. None: SPOOLED_GRPC_ADDRESS; or else,
            if there is an API key, ``localhost:50051``; or else ``embedded:spooled.db``, with a
            warning in the log.
        api_key: None: SPOOLED_API_KEY. ``embedded:`` needs none.
        tls: True: on. False: off. A `TLS`: on, with these certificates. None: as SPOOLED_TLS (on or
            off), SPOOLED_TLS_CA, SPOOLED_TLS_CLIENT_CERT, SPOOLED_TLS_CLIENT_KEY (PEM files) and
            SPOOLED_TLS_SERVER_NAME say, or else on, except to this machine.
        timeout_seconds: how long a call may take, retries and waits included; streams may take
            for ever.
        retry: how often and how fast what is safe to repeat is repeated; None: `RetryPolicy()`.
        batch_extension: ``"auto"`` finds out whether the server speaks the batch extension.
        rate_limit: the largest number of calls a second, as a plan allows; None: no limit.

    Raises:
        AuthenticationError: there is no API key.
        InvalidArgumentError: an argument makes no sense; the message says which and why.
        UnavailableError: the file of ``embedded:`` cannot be opened, or a server of its own has it.
    """
    if not address:
        address, note = default_address(api_key)
        if note:
            logging.getLogger("spooled_pipelines.client").warning(note)
    return SpooledClient(
        address,
        api_key=api_key,
        tls=tls,
        timeout_seconds=timeout_seconds,
        retry=retry,
        batch_extension=batch_extension,
        rate_limit=rate_limit,
    )
