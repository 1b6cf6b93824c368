"""One trace from the enqueue to the worker, over real gRPC; and nothing at all where unused."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from spooled_pipelines import AsyncSpooledClient, Job, connect
from spooled_pipelines.errors import NotFoundError
from spooled_pipelines.rpc import tracing
from spooled_pipelines.worker import Worker, batch_handler
from spooled_pipelines.worker.handlers.handler import Handler
from tests.support import forked
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually

SECRET = "x-marks-the-spot"
Open = Callable[..., AsyncSpooledClient]


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    """What the process's one provider has made."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield exporter
    # Others may run in this process afterwards.
    exporter.shutdown()


@pytest.fixture(autouse=True)
def nothing_yet(exporter: InMemorySpanExporter) -> None:
    exporter.clear()


@pytest.fixture(params=[(), ("--no-batch-extension",)], ids=["extension", "plain"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "jobs.db", *request.param) as server:
        yield server


def ours(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def traces(spans: Sequence[ReadableSpan]) -> set[int]:
    return {span.context.trace_id for span in spans}


def drain(server: ServerProcess, queue: str, handler: Handler) -> None:
    with connect(server.address, api_key=server.api_key) as client:
        Worker(client, queue, handler, concurrency=2, stop_when_empty=True).run()


async def test_a_job_is_handled_in_the_trace_that_enqueued_it(
    open_client: Open, server: ServerProcess, exporter: InMemorySpanExporter, queue: str
) -> None:
    client = open_client(server)
    with trace.get_tracer("test").start_as_current_span("pipeline") as pipeline:
        await client.enqueue(queue, {"secret": SECRET}, tags={"team": "a"})
    seen: list[int] = []

    def handler(job: Job) -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)

    drain(server, queue, handler)
    (sent,), (handled,) = ours(exporter, f"send {queue}"), ours(exporter, f"process {queue}")
    assert parent_of(sent) == pipeline.get_span_context().span_id
    assert parent_of(handled) == sent.context.span_id
    # What the handler does itself is within its span.
    assert seen == [handled.context.span_id]
    assert (sent.kind, handled.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert handled.attributes["messaging.destination.name"] == queue
    assert SECRET not in "".join(span.to_json() for span in exporter.get_finished_spans())


async def test_a_batch_is_one_span_and_each_of_its_jobs_is_a_child(
    open_client: Open, server: ServerProcess, exporter: InMemorySpanExporter, queue: str
) -> None:
    client = open_client(server)
    rows = [{"n": n, "secret": SECRET} for n in range(40)]
    batch = await client.enqueue_batch(rows, queue, tags={"team": "a"})

    async def asynchronous(job: Job) -> None:
        assert job.payload["secret"] == SECRET

    drain(server, queue, asynchronous)
    (sent,), handled = ours(exporter, f"send {queue}"), ours(exporter, f"process {queue}")
    assert sent.attributes["messaging.batch.message_count"] == 40
    assert sent.attributes["spooled.batch_id"] == batch.id
    assert [parent_of(span) for span in handled] == [sent.context.span_id] * 40
    assert SECRET not in "".join(span.to_json() for span in exporter.get_finished_spans())


async def test_rows_with_tags_of_their_own_are_in_the_trace_too(
    open_client: Open, server: ServerProcess, exporter: InMemorySpanExporter, queue: str
) -> None:
    client = open_client(server)
    own = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    tags = [[("team", "a")], [("team", "b"), ("traceparent", own)]]
    kind = pa.map_(pa.string(), pa.string())
    rows = pa.table({"n": [1, 2], "tags": pa.array(tags, kind)})
    await client.enqueue_batch(rows, queue, payload=["n"], tags="tags")
    drain(server, queue, lambda job: None)
    (sent,) = ours(exporter, f"send {queue}")
    parents = {parent_of(span) for span in ours(exporter, f"process {queue}")}
    assert parents == {sent.context.span_id, int("2" * 16, 16)}


async def test_the_same_rows_in_another_trace_are_the_same_jobs(
    open_client: Open, server: ServerProcess, exporter: InMemorySpanExporter, queue: str
) -> None:
    client = open_client(server)
    rows = [{"n": n} for n in range(10)]
    first = await client.enqueue_batch(rows, queue, name="nightly")
    again = await client.enqueue_batch(rows, queue, name="nightly")
    assert (first.created, again.created, again.duplicates) == (10, 0, 10)
    assert first.id == again.id
    one = await client.enqueue(queue, {}, idempotency_key="k")
    assert await client.enqueue(queue, {}, idempotency_key="k") == one.__class__(one.job_id, False)
    drain(server, queue, lambda job: None)
    sent = ours(exporter, f"send {queue}")
    assert len(traces(sent)) == 4
    # The trace that made the job is the job's.
    made_by = {sent[0].context.span_id, sent[2].context.span_id}
    assert {parent_of(span) for span in ours(exporter, f"process {queue}")} == made_by


async def test_a_handler_that_fails_is_marked_without_what_it_said(
    server: ServerProcess, exporter: InMemorySpanExporter, queue: str
) -> None:
    with connect(server.address, api_key=server.api_key) as client:
        client.enqueue(queue, {"secret": SECRET}, max_retries=1)

    def broken(job: Job) -> None:
        raise LookupError(job.payload["secret"])

    drain(server, queue, broken)
    (handled,) = ours(exporter, f"process {queue}")
    assert handled.status.status_code.name == "ERROR"
    assert handled.attributes["error.type"] == "LookupError"
    assert SECRET not in handled.to_json()


@pytest.mark.parametrize("is_async", [False, True], ids=["thread", "async"])
async def test_a_call_with_many_rows_is_one_span_linked_to_where_they_were_enqueued(
    open_client: Open,
    server: ServerProcess,
    exporter: InMemorySpanExporter,
    queue: str,
    is_async: bool,
) -> None:
    client = open_client(server)
    await client.enqueue_batch([{"n": n, "secret": SECRET} for n in range(40)], queue)
    await client.enqueue(queue, {"n": 40, "secret": SECRET})
    current: list[int] = []

    def plain(rows: pa.RecordBatch) -> list[dict[str, int]]:
        current.append(trace.get_current_span().get_span_context().span_id)
        return [{"n": n} for n in rows["n"].to_pylist()]

    async def asynchronous(rows: pa.RecordBatch) -> list[dict[str, int]]:
        return plain(rows)

    handler = asynchronous if is_async else plain
    drain(server, queue, batch_handler(max_rows=100, max_wait=1)(handler))
    sent, handled = ours(exporter, f"send {queue}"), ours(exporter, f"process {queue}")
    # In as many calls as the jobs happened to come in, each a trace of its own.
    assert sorted(current) == sorted(span.context.span_id for span in handled)
    assert [parent_of(span) for span in handled] == [None] * len(handled)
    assert {span.kind for span in handled} == {SpanKind.CONSUMER}
    assert sum(span.attributes["messaging.batch.message_count"] for span in handled) == 41
    links = [link.context.span_id for span in handled for link in span.links]
    assert set(links) == {span.context.span_id for span in sent}
    # One for each place, however many of its jobs there are.
    assert len(links) <= 2 * len(handled)
    assert SECRET not in "".join(span.to_json() for span in exporter.get_finished_spans())


def test_a_call_with_many_rows_that_fails_is_marked(
    server: ServerProcess, exporter: InMemorySpanExporter, queue: str
) -> None:
    with connect(server.address, api_key=server.api_key) as client:
        client.enqueue(queue, {"secret": SECRET}, tags={"traceparent": "nonsense"}, max_retries=1)

    @batch_handler
    def broken(rows: pa.RecordBatch) -> None:
        raise LookupError(rows["secret"][0].as_py())

    drain(server, queue, broken)
    (handled,) = ours(exporter, f"process {queue}")
    assert handled.status.status_code.name == "ERROR"
    assert (handled.attributes["error.type"], len(handled.links)) == ("LookupError", 0)
    assert SECRET not in handled.to_json()


def test_tags_keep_their_limit_and_what_the_caller_set(exporter: InMemorySpanExporter) -> None:
    with trace.get_tracer("test").start_as_current_span("pipeline"):
        assert set(tracing.with_context({"a": "b"})) == {"a", "traceparent"}
        full = {"a": "x" * (65_536 - 10)}
        assert tracing.with_context(full) == full
        own = {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}
        assert tracing.with_context(own) == own
    assert tracing.with_context({"a": "b"}) == {"a": "b"}


def test_each_call_of_a_server_is_a_span_with_its_request_id(
    tmp_path: Path, exporter: InMemorySpanExporter, queue: str
) -> None:
    with connect(f"embedded:{tmp_path / 'jobs.db'}") as client:
        client.enqueue(queue, {"secret": SECRET})
        with pytest.raises(NotFoundError) as caught:
            client.get_job("nothing")
        (sent,) = ours(exporter, f"send {queue}")

        def at_server(method: str) -> list[ReadableSpan]:
            return ours(exporter, f"spooled.v1.QueueService/{method}")

        eventually(lambda: at_server("Enqueue") and at_server("GetJob"))
        (enqueued,), (refused,) = at_server("Enqueue"), at_server("GetJob")
    # The way goes on at the server: its span is a child of the client's.
    assert parent_of(enqueued) == sent.context.span_id
    assert enqueued.kind is SpanKind.SERVER
    assert enqueued.attributes["rpc.grpc.status_code"] == 0
    assert (refused.attributes["rpc.grpc.status_code"], parent_of(refused)) == (5, None)
    assert enqueued.end_time >= enqueued.start_time
    # By this the client's error is found in the server's log, and in its traces.
    assert caught.value.details["request_id"] == refused.attributes["spooled.request_id"]
    assert SECRET not in "".join(span.to_json() for span in exporter.get_finished_spans())


def test_the_example_on_the_page_is_one_trace(tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "tracing.md"
    (code,) = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    done = forked.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    told = done.stdout
    names = Counter(re.findall(r'^    "name": "([^"]*)"', told, re.MULTILINE))
    wanted = {"nightly run": 1, "send scores": 1, "process scores": 2, "model": 2}
    assert {name: names[name] for name in wanted} == wanted
    spans = re.findall(
        r'^    "name": "([^"]*)".*?"trace_id": "(0x\w+)"', told, re.DOTALL | re.MULTILINE
    )
    assert len({trace_id for name, trace_id in spans if name in wanted}) == 1


UNUSED = """
import sys
from spooled_pipelines import SpooledClient
from spooled_pipelines.worker import Worker

with SpooledClient("embedded:jobs.db") as client:
    client.enqueue("q", {"n": 1})
    client.enqueue_batch([{"n": 2}], "q")
    Worker(client, "q", lambda job: None, stop_when_empty=True).run()
    assert client.queue_stats("q").completed == 2
assert not [name for name in sys.modules if name.startswith("opentelemetry")], sys.modules
"""


def test_who_does_not_use_opentelemetry_does_not_import_it(tmp_path: Path) -> None:
    forked.run([sys.executable, "-c", UNUSED], cwd=tmp_path, check=True, timeout=60)
