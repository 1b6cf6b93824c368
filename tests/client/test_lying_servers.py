"""Answers of a server that lies or is broken end in an error, and not in the client's memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import grpc
import pytest

from spooled_pipelines import SpooledClient, connect
from spooled_pipelines.cli.commands.keys import list_keys
from spooled_pipelines.errors import ServerError
from spooled_pipelines.wire import batch_v1, keys_v1, limits, methods, queue_admin_v1, spooled_v1
from spooled_pipelines.wire.well_known import Struct, Value


def stats(*names: str) -> batch_v1.GetBatchStatsResponse:
    return batch_v1.GetBatchStatsResponse(
        batches=[batch_v1.BatchStats(batch_id=name, queue_name="q", sealed=True) for name in names]
    )


def same_page(_: Any, __: Any) -> Any:
    job = spooled_v1.Job(id="j", queue_name="q")
    return queue_admin_v1.ListDeadLettersResponse(jobs=[job], next_page_token="1")


def empty_pages(request: Any, _: Any) -> Any:
    token = str(int(request.page_token or 0) + 1)
    return queue_admin_v1.ListDeadLettersResponse(next_page_token=token)


def same_jobs(_: Any, __: Any) -> Iterator[Any]:
    while True:
        yield batch_v1.ListBatchJobsResponse(
            jobs=[spooled_v1.Job(id="j", queue_name="q")], next_page_token="1"
        )


def pages_without_jobs(_: Any, __: Any) -> Iterator[Any]:
    for number in count(1):
        yield batch_v1.ListBatchJobsResponse(next_page_token=str(number))


def too_large(_: Any, __: Any) -> Any:
    text = "x" * (limits.RESPONSE_MAX_BYTES + 1)
    payload = Struct(fields={"a": Value(string_value=text)})
    return spooled_v1.GetJobResponse(job=spooled_v1.Job(id="j", payload=payload))


Answer = Callable[[Any, Any], Any]
Asked = Callable[[SpooledClient], object]
LIES: dict[str, tuple[str, Answer, Asked, str]] = {
    "the same page": (
        "ListDeadLetters",
        same_page,
        lambda c: c.dead_letters("q"),
        "pages do not end",
    ),
    "pages without entries": (
        "ListDeadLetters",
        empty_pages,
        lambda c: c.dead_letters("q"),
        "pages do not end",
    ),
    "the same jobs": (
        "ListBatchJobs",
        same_jobs,
        lambda c: c.batch("b").results(),
        "pages do not end",
    ),
    "pages without jobs": (
        "ListBatchJobs",
        pages_without_jobs,
        lambda c: c.batch("b").results(),
        "pages do not end",
    ),
    "no statistics": (
        "GetBatchStats",
        lambda *_: stats(),
        lambda c: c.batch("b").stats(),
        "answered about 0 batches",
    ),
    "statistics of two": (
        "GetBatchStats",
        lambda *_: stats("b", "b"),
        lambda c: c.batch("b").stats(),
        "answered about 2 batches",
    ),
    "statistics of another": (
        "GetBatchStats",
        lambda *_: stats("other"),
        lambda c: c.batch("b").stats(),
        "other",
    ),
    "places that are not there": (
        "FindKeys",
        lambda *_: batch_v1.FindKeysResponse(found=[7]),
        lambda c: c.plan_batch([{"a": 1}], "q", key="a"),
        "places up to 7",
    ),
}


def handler(name: str, answer: Answer) -> grpc.GenericRpcHandler:
    (method,) = [each for each in methods.every_method() if each.name == name]
    kind = (
        grpc.unary_stream_rpc_method_handler
        if method.server_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    service = method.path.split("/")[1]
    made = kind(answer, method.request_class.FromString, method.response_class.SerializeToString)
    return grpc.method_handlers_generic_handler(service, {name: made})


@pytest.fixture
def lying() -> Iterator[Callable[..., SpooledClient]]:
    pool = ThreadPoolExecutor(4)
    server = grpc.server(pool, options=[("grpc.max_send_message_length", -1)])
    clients = []

    def start(**answers: Answer) -> SpooledClient:
        answers.setdefault("GetBatchStats", lambda request, _: stats(*request.batch_ids))
        server.add_generic_rpc_handlers(tuple(handler(*each) for each in answers.items()))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        clients.append(connect(f"127.0.0.1:{port}", api_key="sp_test_any", batch_extension="on"))
        return clients[0]

    yield start
    for client in clients:
        client.close()
    server.stop(None).wait()
    pool.shutdown()


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_a_server_error(lying: Callable[..., SpooledClient], name: str) -> None:
    call, answer, ask, text = LIES[name]
    with pytest.raises(ServerError, match=text):
        ask(lying(**{call: answer}))


def key_pages(request: Any, _: Any) -> Any:
    """Two pages, as they should be."""
    is_last = request.page_token == "2"
    key = keys_v1.Key(id="key_b" if is_last else "key_a")
    return keys_v1.ListKeysResponse(keys=[key], next_page_token="" if is_last else "2")


def test_keys_are_listed_over_all_pages(
    lying: Callable[..., SpooledClient], capsys: pytest.CaptureFixture[str]
) -> None:
    address = lying(ListKeys=key_pages).connection.settings.name
    list_keys(address=address, api_key="sp_test_any", as_json=True)
    listed = map(json.loads, capsys.readouterr().out.splitlines())
    assert [key["id"] for key in listed] == ["key_a", "key_b"]


def test_pages_of_keys_that_do_not_end_are_a_server_error(
    lying: Callable[..., SpooledClient],
) -> None:
    page = keys_v1.ListKeysResponse(keys=[keys_v1.Key(id="key_a")], next_page_token="1")
    address = lying(ListKeys=lambda *_: page).connection.settings.name
    with pytest.raises(ServerError, match="pages do not end"):
        list_keys(address=address, api_key="sp_test_any")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound that is cheap to exceed."""
    monkeypatch.setattr(limits, "RESPONSE_MAX_BYTES", 4 << 20)


@pytest.mark.usefixtures("small")
def test_an_answer_is_not_larger_than_any_may_be(lying: Callable[..., SpooledClient]) -> None:
    client = lying(GetJob=too_large)
    with pytest.raises(ServerError, match="larger than any answer"):
        client.get_job("j")


@pytest.mark.usefixtures("small")
def test_what_is_small_until_it_is_unpacked_is_not_larger_either(
    lying: Callable[..., SpooledClient],
) -> None:
    def packed(request: Any, context: grpc.ServicerContext) -> Any:
        context.set_compression(grpc.Compression.Gzip)
        return too_large(request, context)

    client = lying(GetJob=packed)
    with pytest.raises(ServerError, match="larger than any answer"):
        client.get_job("j")
