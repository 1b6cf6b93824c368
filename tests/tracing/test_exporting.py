"""`serve`, `enqueue` and `work` send their spans to a collector that is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service

from tests.support import forked
from tests.support.server_process import API_KEY


class Collector(service.TraceServiceServicer):
    """A real OTLP endpoint; keeps (service, span name, trace id)."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, bytes]] = []

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        for resource in request.resource_spans:
            about = {item.key: item.value.string_value for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [
                    (about["service.name"], span.name, span.trace_id) for span in scope.spans
                ]
        return messages.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    service.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(None)


def test_a_job_of_the_shell_is_one_trace_from_its_table_to_its_handler(
    tmp_path: Path, collector: tuple[Collector, str]
) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "handlers.py").write_text("def quick(job):\n    return None\n")
    kept, endpoint = collector
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "spooled_pipelines.cli.main"]
    serve = ["serve", "--listen", "127.0.0.1:0", "--store", "sqlite:///jobs.db"]
    with forked.Popen(
        [*command, *serve, "--api-key", API_KEY],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip().removeprefix("listening on ")
            named = {"SPOOLED_GRPC_ADDRESS": address, "SPOOLED_API_KEY": API_KEY}
            for line in (["enqueue", "a.csv", "q"], ["work", "q", "handlers:quick", "--drain"]):
                forked.run(
                    [*command, *line],
                    cwd=tmp_path,
                    env={**environment, **named},
                    check=True,
                    timeout=60,
                )
        finally:
            # What is not sent yet is sent before it ends.
            server.send_signal(signal.SIGTERM)
            server.wait(30)
    told = {(service_name, name): trace for service_name, name, trace in kept.spans}
    trace = told["spooled-enqueue", "send q"]
    assert told["spooled-server", "spooled_pipelines.v1.BatchService/EnqueueBatch"] == trace
    assert told["spooled-worker", "process q"] == trace
