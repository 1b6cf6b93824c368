"""The log has a line for each call where one asks for it, and never a key or a payload."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from spooled_pipelines.server.core.jobs.settlements import Completion
from spooled_pipelines.server.core.runtime.operator_log import operator_log
from spooled_pipelines.server.core.upkeep.retention import Retention
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.version import __version__
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support import forked
from tests.support.server_process import API_KEY, ServerProcess
from tests.support.store_kit import ORGANIZATION, StoreKit, holder, settle_one
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


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_start_and_an_end_are_lines_at_the_default_level(
    start_server: Callable[..., ServerProcess],
) -> None:
    server = start_server("--metrics", "127.0.0.1:0", "--http", "127.0.0.1:0")
    assert server.stop() == 0
    lines = server.log.read_text().splitlines()
    migrated, started, draining, stopped = [line.partition("operator: ")[2] for line in lines]
    assert migrated.startswith(f"applied migration 0001_schema to {server.store}")
    for part in (
        __version__,
        f"sqlite:///{server.store}",
        "0001_schema",
        server.address,
        "page http",
    ):
        assert part in started
    assert draining == "draining: 0 calls run, and have 5 s to end"
    assert stopped == "stopped"


def test_with_json_logs_nothing_else_is_printed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spooled_pipelines.cli.main", "serve", "--listen"]
    command += ["127.0.0.1:0", "--store", f"sqlite:///{tmp_path / 'jobs.db'}", "--api-key", API_KEY]
    command += ["--log-format", "json", "--http", "127.0.0.1:0"]
    with forked.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        where = [json.loads(first.stdout.readline()) for _ in range(2)]
        assert [*where[0], *where[1]] == ["page", "listening"]
        # The file is taken: the reason why there is no second server is JSON as well.
        second = forked.run(command, timeout=30)
        first.terminate()
        _, said = first.communicate(timeout=30)
    assert (second.returncode, second.stdout) == (2, "")
    (refusal,) = lines_of(second.stderr)
    assert (refusal["level"], f"process {first.pid}" in refusal["message"]) == ("critical", True)
    (started,) = [line for line in lines_of(said) if line["message"].startswith("started")]
    assert (started["version"], started["schema"]) == (__version__, "0001_schema")


async def test_what_is_pruned_is_a_line(
    store_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", operator_log.name)
    # Whatever an earlier test of this process did to the loggers above.
    for name, value in (("handlers", [caplog.handler]), ("propagate", False), ("disabled", False)):
        monkeypatch.setattr(operator_log, name, value)
    kit = StoreKit(lambda clock: open_store(store_url, clock, Retention(60, 60)))
    await kit.open()
    for _ in range(3):
        await kit.enqueue()
        (job,) = await kit.claim()
        await settle_one(kit.store, ORGANIZATION, holder(job), Completion(None))
    kit.clock.advance(61)
    while "pruned: 3 payloads, 3 jobs in no batch" not in caplog.text:
        await kit.store.sweep()
        kit.clock.advance(0.05)
    await kit.store.close()
