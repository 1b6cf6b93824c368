"""The steps of `doctor`: each looks at one thing, and those after a failed one are not reached."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from spooled_pipelines.cli import doctor_network, exit_codes
from spooled_pipelines.cli.options import connected
from spooled_pipelines.cli.profiles import chosen
from spooled_pipelines.errors import (
    AuthenticationError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    SpooledError,
)

if TYPE_CHECKING:
    from spooled_pipelines.client import SpooledClient
    from spooled_pipelines.rpc.settings import ConnectionSettings

# Rates and schedules are made of the client's clock, leases and retries of the server's.
_SKEW_SECONDS = 5.0


@dataclass(frozen=True)
class Step:
    """What one look found.

    Attributes:
        name: what was looked at.
        state: "ok", "warning", "failed" or "skipped".
        text: what was found.
        advice: what to do; "" where nothing has to be done.
        code: the exit code of a failure, else 0.
    """

    name: str
    state: str
    text: str
    advice: str = ""
    code: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "step": self.name,
            "state": self.state,
            "text": self.text,
            "advice": self.advice or None,
        }


def examine(
    address: str | None, api_key: str | None, profile: str | None, timeout: float
) -> Iterator[Step]:
    """Each step as soon as it is done; ends with the first that failed."""
    try:
        client = connected(address, api_key, profile)
        source = _source(address, profile)
    except exit_codes.UsageError as error:
        yield Step("settings", "failed", str(error), code=exit_codes.BAD_INPUT)
        return
    except SpooledError as error:
        yield Step("settings", "failed", error.message, code=exit_codes.code_of(error))
        return
    with client:
        settings = client.settings
        yield Step(
            "settings",
            "ok",
            f"{settings.name} ({source}), the key from {settings.api_key_source}",
        )
        for look in (*_network(settings, timeout), *_server(client, timeout)):
            step = look()
            yield step
            if step.state == "failed":
                return


def _source(address: str | None, profile: str | None) -> str:
    named = chosen(profile, address=address)
    if named is not None:
        return f"profile {named.name}"
    if address:
        return "--address"
    return "SPOOLED_GRPC_ADDRESS" if os.environ.get("SPOOLED_GRPC_ADDRESS") else "by default"


def _network(settings: ConnectionSettings, timeout: float) -> list[Callable[[], Step]]:
    if settings.file is not None:
        return [lambda: Step("network", "skipped", "a file, served by programs of this machine")]
    found = doctor_network.endpoints(settings)
    looks: list[Callable[[], Step]] = []
    for endpoint in found:
        looks += [
            partial(_step, "DNS", len(found) > 1, doctor_network.resolve, endpoint),
            partial(
                _step, "TCP", len(found) > 1, doctor_network.reach, endpoint, settings, timeout
            ),
            partial(
                _step,
                "TLS",
                len(found) > 1,
                doctor_network.shake_hands,
                endpoint,
                settings,
                timeout,
            ),
        ]
    return looks


def _step(name: str, others: bool, look: Callable[..., doctor_network.Found], *of: Any) -> Step:
    found = look(*of)
    if found.state != "failed":
        return Step(name, found.state, found.text, found.advice)
    if others:
        # Calls go to the other servers of the address as long as one of them is there.
        return Step(name, "warning", found.text, found.advice)
    return Step(name, "failed", found.text, found.advice, exit_codes.UNREACHABLE)


def _server(client: SpooledClient, timeout: float) -> list[Callable[[], Step]]:
    return [
        lambda: _answers(client, timeout),
        lambda: _key(client),
        lambda: _permissions(client),
        lambda: _extension(client),
        lambda: _clock(client),
    ]


def _answers(client: SpooledClient, timeout: float) -> Step:
    began = time.perf_counter()
    try:
        client.wait_for_ready(timeout)
    except SpooledError as error:
        return Step("server", "failed", error.message, code=exit_codes.code_of(error))
    took = (time.perf_counter() - began) * 1000
    return Step("server", "ok", f"speaks gRPC, and answered within {took:,.0f} ms")


def _key(client: SpooledClient) -> Step:
    try:
        _ask(client, "GetQueueStats")
    except AuthenticationError as error:
        return Step("key", "failed", error.message, code=exit_codes.DENIED)
    except PermissionDeniedError:
        pass
    except SpooledError as error:
        return Step("key", "failed", error.message, code=exit_codes.code_of(error))
    return Step("key", "ok", "the server knows it")


def _permissions(client: SpooledClient) -> Step:
    """Asks for what is refused for its own sake, after who asks was looked at."""
    asked = {"read": "GetQueueStats", "enqueue": "Enqueue", "work": "RenewLease"}
    try:
        may = [what for what, method in asked.items() if _may(client, method)]
        if _may_administrate(client):
            may.append("administrate")
    except SpooledError as error:
        return Step("permissions", "failed", error.message, code=exit_codes.code_of(error))
    cannot = [what for what in (*asked, "administrate") if what not in may]
    text = "may " + (", ".join(may) or "nothing")
    if not cannot:
        return Step("permissions", "ok", text)
    advice = f"not: {', '.join(cannot)}; where that is needed: `spooled-pipelines keys create`"
    return Step("permissions", "ok" if may else "warning", text, advice)


def _may(client: SpooledClient, method: str) -> bool:
    try:
        _ask(client, method)
    except PermissionDeniedError as error:
        # A key of some queues is refused the empty one, which says nothing about its role.
        return "API key is for" not in error.message
    return True


def _may_administrate(client: SpooledClient) -> bool:
    from spooled_pipelines.wire.keys_v1 import ListKeysRequest
    from spooled_pipelines.wire.methods import KEY_SERVICE, methods_of

    method = methods_of(KEY_SERVICE)["ListKeys"]
    try:
        client.calls.unary(method, ListKeysRequest(), repeatable=True)
    except (PermissionDeniedError, ServerError):
        return False
    return True


def _ask(client: SpooledClient, name: str) -> None:
    """One call with an empty request, which each server refuses as invalid once it has looked at
    who asks: a queue without a name, a job without an id. Nothing is read or written."""
    from spooled_pipelines.rpc.methods import QUEUE

    method = QUEUE[name]
    with contextlib.suppress(InvalidArgumentError, NotFoundError):
        client.calls.unary(method, method.request_class(), repeatable=True)


def _extension(client: SpooledClient) -> Step:
    try:
        speaks = client.calls.speaks_batches()
    except PermissionDeniedError:
        # Whoever is refused is refused by a server that has it.
        speaks = True
    except SpooledError as error:
        return Step("extension", "failed", error.message, code=exit_codes.code_of(error))
    if speaks:
        return Step("extension", "ok", "batches are sent, counted and watched by the server")
    return Step(
        "extension",
        "warning",
        "a plain spooled.v1 server: rows are sent one by one, and batches are known to the "
        "program that enqueued them alone",
    )


def _clock(client: SpooledClient) -> Step:
    from spooled_pipelines.rpc.methods import BATCH
    from spooled_pipelines.wire.batch_v1 import GetBatchStatsRequest

    before = time.time()
    try:
        answer = client.calls.unary(BATCH["GetBatchStats"], GetBatchStatsRequest(), repeatable=True)
    except SpooledError:
        return Step("clock", "skipped", "this server, or this key, cannot be asked for the time")
    after = time.time()
    if not answer.HasField("server_time"):
        return Step("clock", "skipped", "this server does not tell its time")
    there = answer.server_time.ToDatetime(timezone.utc).timestamp()
    skew = there - (before + after) / 2
    uncertain = (after - before) / 2
    if abs(skew) - uncertain > _SKEW_SECONDS:
        ahead = "ahead of" if skew > 0 else "behind"
        return Step(
            "clock",
            "warning",
            f"the server's is {abs(skew):,.1f} s {ahead} this machine's",
            "jobs with a scheduled_at from here fall due that much too early or too late: set "
            "both by NTP",
        )
    return Step("clock", "ok", f"within {abs(skew) + uncertain:.2f} s of this machine's")
