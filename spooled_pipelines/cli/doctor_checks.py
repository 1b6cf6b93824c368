"""The checks of `doctor`: each looks at one thing, and the first that fails is the last."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from spooled_pipelines.cli import doctor_network
from spooled_pipelines.cli.error_output import describe
from spooled_pipelines.cli.exit_codes import BAD_INPUT, UNREACHABLE, UsageError, exit_code_of
from spooled_pipelines.cli.profiles import chosen_profile
from spooled_pipelines.client.key_permissions import check_permission
from spooled_pipelines.errors import PermissionDeniedError, ServerError, SpooledError
from spooled_pipelines.wire.methods import QUEUE, Method

if TYPE_CHECKING:
    from spooled_pipelines.cli.options import Server
    from spooled_pipelines.client import SpooledClient
    from spooled_pipelines.rpc.settings import ConnectionSettings

# Rates and schedules follow the client's clock, leases and retries the server's.
_SKEW_SECONDS = 5.0


@dataclass(frozen=True)
class Step:
    """The outcome of one check.

    Attributes:
        name: what was checked.
        state: "ok", "warning", "failed" or "skipped".
        text: what was found.
        advice: what to do; "" if nothing has to be done.
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


def run_checks(server: Server, timeout: float) -> Iterator[Step]:
    """Yield each step as soon as it is done, up to the first that fails."""
    try:
        client = server.connect()
        source = _source(server.address or None, server.profile)
    except UsageError as error:
        yield Step("settings", "failed", str(error), code=BAD_INPUT)
        return
    except SpooledError as error:
        yield _failed("settings", error)
        return
    with client:
        settings = client.settings
        yield Step(
            "settings",
            "ok",
            f"{settings.name} ({source}), the key from {settings.api_key_source}",
        )
        for check in (*_network_checks(settings, timeout), *_server_checks(client, timeout)):
            step = check()
            yield step
            if step.state == "failed":
                return


def _source(address: str | None, profile: str | None) -> str:
    named = chosen_profile(profile, address=address)
    if named is not None:
        return f"profile {named.name}"
    if address:
        return "--address"
    return "SPOOLED_GRPC_ADDRESS" if os.environ.get("SPOOLED_GRPC_ADDRESS") else "by default"


def _network_checks(settings: ConnectionSettings, timeout: float) -> list[Callable[[], Step]]:
    if settings.file is not None:
        return [lambda: Step("network", "skipped", "a file, served by programs of this machine")]
    endpoints = doctor_network.endpoints(settings)
    checks: list[tuple[str, Callable[..., doctor_network.Finding], tuple[Any, ...]]] = [
        ("DNS", doctor_network.resolve, ()),
        ("TCP", doctor_network.reach, (settings, timeout)),
        ("TLS", doctor_network.shake_hands, (settings, timeout)),
    ]
    return [
        partial(_step, name, len(endpoints) > 1, check, endpoint, *more)
        for endpoint in endpoints
        for name, check, more in checks
    ]


def _step(
    name: str, others: bool, check: Callable[..., doctor_network.Finding], *arguments: Any
) -> Step:
    finding = check(*arguments)
    if finding.state != "failed":
        return Step(name, finding.state, finding.text, finding.advice)
    if others:
        # Calls go to the other servers of the address as long as one of them answers.
        return Step(name, "warning", finding.text, finding.advice)
    return Step(name, "failed", finding.text, finding.advice, UNREACHABLE)


def _failed(name: str, error: SpooledError) -> Step:
    return Step(name, "failed", describe(error), code=exit_code_of(error))


def _server_checks(client: SpooledClient, timeout: float) -> list[Callable[[], Step]]:
    return [
        lambda: _responds(client, timeout),
        lambda: _key(client),
        lambda: _permissions(client),
        lambda: _extension(client),
        lambda: _clock(client),
    ]


def _responds(client: SpooledClient, timeout: float) -> Step:
    began = time.perf_counter()
    try:
        client.wait_for_ready(timeout)
    except SpooledError as error:
        return _failed("server", error)
    took = (time.perf_counter() - began) * 1000
    return Step("server", "ok", f"speaks gRPC, and answered within {took:,.0f} ms")


def _key(client: SpooledClient) -> Step:
    try:
        check_permission(client, QUEUE["GetQueueStats"])
    except PermissionDeniedError:
        pass
    except SpooledError as error:
        return _failed("key", error)
    return Step("key", "ok", "the server knows it")


def _permissions(client: SpooledClient) -> Step:
    asked = {"read": "GetQueueStats", "enqueue": "Enqueue", "work": "RenewLease"}
    try:
        may = [what for what, name in asked.items() if _may(client, QUEUE[name])]
        if _may_administrate(client):
            may.append("administrate")
    except SpooledError as error:
        return _failed("permissions", error)
    cannot = [what for what in (*asked, "administrate") if what not in may]
    text = "may " + (", ".join(may) or "nothing")
    if not cannot:
        return Step("permissions", "ok", text)
    advice = f"not: {', '.join(cannot)}; `spooled-pipelines keys create` makes a key that may"
    return Step("permissions", "ok" if may else "warning", text, advice)


def _may(client: SpooledClient, method: Method) -> bool:
    try:
        check_permission(client, method)
    except PermissionDeniedError:
        return False
    return True


def _may_administrate(client: SpooledClient) -> bool:
    from spooled_pipelines.wire.keys_v1 import ListKeysRequest
    from spooled_pipelines.wire.methods import KEYS

    try:
        client.connection.unary(KEYS["ListKeys"], ListKeysRequest(page_size=1), repeatable=True)
    except (PermissionDeniedError, ServerError):
        return False
    return True


def _extension(client: SpooledClient) -> Step:
    try:
        speaks = client.batch_backend().keeps_batches
    except PermissionDeniedError:
        # A server that refuses the call has the extension.
        speaks = True
    except SpooledError as error:
        return _failed("extension", error)
    if speaks:
        return Step("extension", "ok", "batches are sent, counted and watched by the server")
    return Step(
        "extension",
        "warning",
        "a plain spooled.v1 server: rows are sent one by one, and only the program that "
        "enqueued a batch knows of it",
    )


def _clock(client: SpooledClient) -> Step:
    from spooled_pipelines.wire.batch_v1 import GetBatchStatsRequest
    from spooled_pipelines.wire.methods import BATCH

    before = time.time()
    try:
        answer = client.connection.unary(
            BATCH["GetBatchStats"], GetBatchStatsRequest(), repeatable=True
        )
    except SpooledError:
        return Step(
            "clock", "skipped", "this server, or this key, does not allow asking for the time"
        )
    after = time.time()
    if not answer.HasField("server_time"):
        return Step("clock", "skipped", "this server does not say its time")
    there = answer.server_time.ToDatetime(timezone.utc).timestamp()
    skew = there - (before + after) / 2
    uncertain = (after - before) / 2
    if abs(skew) - uncertain > _SKEW_SECONDS:
        ahead = "ahead of" if skew > 0 else "behind"
        return Step(
            "clock",
            "warning",
            f"the server's is {abs(skew):,.1f} s {ahead} this machine's",
            "jobs with a scheduled_at from here fall due too early or too late by this: set both "
            "clocks by NTP",
        )
    return Step("clock", "ok", f"within {abs(skew) + uncertain:.2f} s of this machine's")
