"""The log has a line for each call where one asks for it, and never a key or a payload."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.server_process import ServerProcess
from tests.support.wire import method_named, struct


def call(server: ServerProcess, name: str, request: Any, key: str, **metadata: str) -> Any:
    method = method_named(name)
    with grpc.insecure_channel(server.address) as channel:
        invoke = channel.unary_unary(
            method.path, lambda m: m.SerializeToString(), method.response_class.FromString
        )
        more = [(name.replace("_", "-"), value) for name, value in metadata.items()]
        return invoke(request, metadata=(("x-api-key", key), *more), timeout=20)


def test_json_lines_tell_each_call_by_its_request_id(
    start_server: Callable[..., ServerProcess],
) -> None:
    server = start_server("--log-format", "json", "--log-level", "info")
    request = spooled.EnqueueRequest(queue_name="q", payload=struct(text="x-marks-the-spot"))
    call(server, "Enqueue", request, server.api_key, x_request_id="mine-1")
    call(server, "Enqueue", request, server.api_key)
    with pytest.raises(grpc.RpcError):
        call(server, "Enqueue", request, "sp_test_wrong", x_request_id='evil"{}')
    assert server.stop() == 0
    text = server.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    calls = [line for line in lines if line["logger"].endswith(".rpc_call")]
    assert [(line["code"], line["organization"]) for line in calls] == [
        ("OK", "default"),
        ("OK", "default"),
        ("UNAUTHENTICATED", None),
    ]
    assert {line["method"] for line in calls} == {"/spooled.v1.QueueService/Enqueue"}
    assert all(line["seconds"] > 0 and line["level"] == "info" for line in calls)
    ids = [line["request_id"] for line in calls]
    assert ids[0] == "mine-1"
    assert len(set(ids)) == 3
    for word in (server.api_key, "sp_test_wrong", "x-marks-the-spot", "evil"):
        assert word not in text


def test_text_lines_carry_the_request_id(start_server: Callable[..., ServerProcess]) -> None:
    server = start_server("--log-level", "info")
    call(
        server, "Enqueue", spooled.EnqueueRequest(queue_name="q"), server.api_key, x_request_id="r7"
    )
    assert server.stop() == 0
    (line,) = [line for line in server.log.read_text().splitlines() if "Enqueue" in line]
    assert "OK" in line
    assert line.endswith("(request r7)")
