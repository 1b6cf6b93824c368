"""Whatever bytes come: a documented status, nothing in the log, no memory lost, still serving."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import psutil
import pytest

from spooled_pipelines.wire.methods import Method
from spooled_pipelines.wire.spooled_v1 import EnqueueRequest, GetJobRequest
from tests.support.proof.hostile import Hostile
from tests.support.raw_calls import Caller
from tests.support.server_process import ServerProcess, complaints_in

Serve = Callable[[str], ServerProcess]
# What proto/ and docs/ say that a call may end with, whatever the request is.
DOCUMENTED = {
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "ALREADY_EXISTS",
    "UNAUTHENTICATED",
    "RESOURCE_EXHAUSTED",
    "UNIMPLEMENTED",
}
# What the caller itself ends: a stream that would go on for ever.
OWN_END = {"CANCELLED", "DEADLINE_EXCEEDED"}
# What only the store can say of a request that is right in itself.
BEHIND_CHECKS = {"OK", "NOT_FOUND", "FAILED_PRECONDITION", "ALREADY_EXISTS", *OWN_END}
AT_ONCE = 16
PATIENCE_SECONDS = 30.0
STREAM_SECONDS = 0.3
# Once it has seen one of everything, the server must not grow by more, whatever else comes.
GROWTH_BYTES = 48 << 20


class Attack:
    """Sends what `Hostile` draws over a few connections at once, and counts the statuses."""

    def __init__(self, server: ServerProcess, seed: int) -> None:
        self.server, self.seed = server, seed
        self.statuses: Counter[str] = Counter()
        self.wrong: list[str] = []

    def send(self, messages: int) -> None:
        """At least so many messages."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            share = messages // AT_ONCE + 1
            hands = [threads.submit(self._hand, hand, share) for hand in range(AT_ONCE)]
        for hand in hands:
            hand.result()

    def _hand(self, hand: int, messages: int) -> None:
        draw = Hostile(self.seed * AT_ONCE + hand)
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self.server.address, options) as channel:
            while messages > 0:
                messages -= self._attack(channel, draw)

    def _attack(self, channel: grpc.Channel, draw: Hostile) -> int:
        """One call; returns how many messages it took."""
        method = draw.method()
        sent = [draw.request(method)]
        if method.client_streaming:
            sent = draw.requests(method)
        elif draw.random.random() < 0.05:
            # None at all would be for gRPC to refuse, which leaves such a call to its deadline.
            sent += draw.requests(method)
        status, details = self._call(channel, method, sent, draw)
        self.statuses[status] += 1
        if status not in DOCUMENTED and not (method.server_streaming and status in OWN_END):
            shown = [data[:200] for data in sent]
            self.wrong.append(f"{method.path}: {status} {details!r} for {shown}")
        return max(len(sent), 1)

    def _call(
        self, channel: grpc.Channel, method: Method, sent: list[bytes], draw: Hostile
    ) -> tuple[str, str]:
        streams = method.server_streaming
        patience = STREAM_SECONDS if streams else PATIENCE_SECONDS
        options = {"metadata": _metadata(draw, self.server.api_key), "timeout": patience}
        try:
            # As a stream also where the RPC takes one message and more come.
            many = method.client_streaming or len(sent) != 1
            answer = _opened(channel, method, many=many)(iter(sent) if many else sent[0], **options)
            for one in answer if streams else (answer,):
                draw.learn(one)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
        return "OK", ""


def _opened(channel: grpc.Channel, method: Method, *, many: bool) -> Any:
    kind = f"{_kind(many)}_{_kind(method.server_streaming)}"
    return getattr(channel, kind)(
        method.path,
        request_serializer=None,
        response_deserializer=method.response_class.FromString,
    )


def _kind(streaming: bool) -> str:
    return "stream" if streaming else "unary"


def _metadata(draw: Hostile, key: str) -> tuple[tuple[str, str | bytes], ...]:
    """Mostly the key; sometimes none, much else, or more than a server takes."""
    chance = draw.random.random()
    own = ("x-api-key", key)
    if chance < 0.03:
        return (("x-api-key", "k" * draw.random.choice((1, 5_000))),)
    if chance < 0.05:
        return (
            (
                "authorization",
                draw.random.choice(("Bearer", "Bearer ", "Basic x", f"bearer {key}")),
            ),
        )
    if chance < 0.06:
        return (own, ("x-much", "x" * 100_000))
    if chance < 0.07:
        return (own, *((f"x-{number}", "v" * 50) for number in range(300)))
    if chance < 0.08:
        return (own, own, ("x-api-key-bin", b"\xff\0"), ("grpc-encoding-bin", b"\xff"))
    return (own,)


def still_serves(server: ServerProcess) -> None:
    with Caller(server.address, server.api_key) as caller:
        made = caller.call(EnqueueRequest(queue_name="at-the-end"))
        assert caller.call(GetJobRequest(job_id=made.job_id)).job.id == made.job_id


def resident(server: ServerProcess) -> int:
    return int(psutil.Process(server.pid).memory_info().rss)


def attack(server: ServerProcess, messages: int) -> str:
    """A quarter to warm it up, then the rest; returns what came of it."""
    first, rest = Attack(server, 1), Attack(server, 2)
    first.send(messages // 4)
    before = resident(server)
    rest.send(messages - messages // 4)
    grown = resident(server) - before
    still_serves(server)
    log = server.log.read_text()
    assert first.wrong + rest.wrong == []
    # What admins did, and which keys were refused, are lines as they should be.
    assert complaints_in(log) == []
    assert grown < GROWTH_BYTES, f"the server grew by {grown >> 20} MiB"
    statuses = dict((first.statuses + rest.statuses).most_common())
    # The attack got past the first checks, too, and to what is there. How much of it does depends
    # on ids that were learned in time, and on streams that were answered in theirs.
    assert sum(statuses.get(name, 0) for name in BEHIND_CHECKS) > messages // 12
    assert statuses.get("OK", 0) > messages // 50
    return f"{messages} messages: {statuses}; {before >> 20} MiB before, {grown / 2**20:.1f} more"


@pytest.fixture
def server(new_store: Callable[[], str], serve: Serve) -> ServerProcess:
    return serve(new_store())


def test_no_bytes_break_the_server(server: ServerProcess) -> None:
    attack(server, 1_500)
    assert server.stop() == 0
    assert server.complaints() == []


@pytest.mark.long
@pytest.mark.timeout(2 * 3600)
def test_no_bytes_break_the_server_however_many(
    server: ServerProcess, size: Callable[[str, int], int]
) -> None:
    print("\n" + attack(server, size("messages", 200_000)))
    assert server.stop() == 0
