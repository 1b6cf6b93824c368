"""Who did what with which key, and which keys were refused: kept, listed and bounded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines.server.core.runtime.operator_log import operator_log
from spooled_pipelines.server.store.limits import AUDIT_KEPT
from spooled_pipelines.server.telemetry.logs import _JsonFormatter
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import keys_v1 as keys
from spooled_pipelines.wire import queue_admin_v1 as queue_admin
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.wire import Wire, answered


async def listed(wire: Wire, key: str | None = None, **fields: Any) -> list[keys.AuditEntry]:
    request = keys.ListAuditRequest(**fields)
    answer = await (wire.call(request, key=key) if key else wire.call(request))
    return [*answer.entries]


async def make(wire: Wire, role: str, name: str = "a key") -> keys.CreateKeyResponse:
    return await wire.call(keys.CreateKeyRequest(name=name, role=role))


async def test_each_admin_act_is_kept_with_who_what_and_how_it_ended(
    wire: Wire, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", operator_log.name)
    # Whatever an earlier test of this process did to the loggers above.
    for name, value in (("handlers", [caplog.handler]), ("propagate", False), ("disabled", False)):
        monkeypatch.setattr(operator_log, name, value)
    made = await make(wire, "admin", "alice")
    key = made.secret
    await wire.enqueue("orders")
    await wire.call(queue_admin.PauseQueueRequest(queue_name="orders"), key=key)
    limits = queue_admin.SetQueueLimitsRequest(queue_name="orders")
    limits.limits.max_in_flight = 5
    await wire.call(limits, key=key)
    await wire.call(queue_admin.PurgeQueueRequest(queue_name="orders"), key=key)
    with answered("NOT_FOUND"):
        await wire.call(batch.CancelBatchRequest(batch_id="none"), key=key)
    await wire.call(keys.RevokeKeyRequest(id=made.key.id))
    # What only looks is not among them.
    await wire.call(queue_admin.ListQueuesRequest())
    entries = await listed(wire)
    assert [(e.action, e.target, e.outcome, e.key_name) for e in reversed(entries)] == [
        ("CreateKey", f"{made.key.id} 'alice' for admin of default", "OK", "given to the server"),
        ("PauseQueue", "orders", "OK", "alice"),
        ("SetQueueLimits", "orders, max_in_flight 5", "OK", "alice"),
        ("PurgeQueue", "orders, cancelled 1", "OK", "alice"),
        ("CancelBatch", "none", "NOT_FOUND", "alice"),
        ("RevokeKey", f"{made.key.id} 'alice' for admin of default", "OK", "given to the server"),
    ]  # fmt: skip
    assert {e.peer for e in entries} <= {"ipv4:127.0.0.1", "ipv6:[::1]"}
    assert entries[1].key_id == made.key.id
    ours = [r for r in caplog.records if r.name == operator_log.name]
    said = [r for r in ours if "PurgeQueue" in r.getMessage()]
    (record,) = said
    audit = json.loads(_JsonFormatter().format(record))["audit"]
    assert (audit["key_id"], audit["target"]) == (made.key.id, "orders, cancelled 1")
    assert key not in caplog.text


async def test_refused_keys_are_kept_once_a_minute_with_how_often(wire: Wire) -> None:
    old = await make(wire, "work", "forgotten job")
    await wire.call(keys.RevokeKeyRequest(id=old.key.id))
    request = spooled.GetQueueStatsRequest(queue_name="q")
    for key in (old.secret, old.secret, old.secret, "sp_test_never_seen_before"):
        with answered("UNAUTHENTICATED"):
            await wire.call(request, key=key)
    reader = await make(wire, "read", "reader")
    with answered("PERMISSION_DENIED"):
        await wire.call(queue_admin.PurgeQueueRequest(queue_name="q"), key=reader.secret)
    refused = [e for e in await listed(wire) if e.refused]
    assert [(e.key_name, e.action, e.outcome, e.times) for e in reversed(refused)] == [
        ("forgotten job", "authenticate", "the API key was revoked", 3),
        ("", "authenticate", "the API key is not one that this server knows", 1),
        ("reader", "PurgeQueue", "PERMISSION_DENIED", 1),
    ]


async def test_a_stranger_cannot_fill_the_disk(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of different refusals there are so many a minute, and of entries so many at all."""
    audit = wire.server._audit
    for number in range(500):
        audit.refused(f"ipv4:192.0.2.{number}", None, "x")
    assert len(audit._refused) <= 51
    await audit.flush()
    entries = await listed(wire, page_size=1000)
    assert sum(e.times for e in entries) == 500
    assert entries[0].peer == "others"
    for kind in AUDIT_KEPT:
        monkeypatch.setitem(AUDIT_KEPT, kind, 10)
    await make(wire, "read")
    entries = await listed(wire, page_size=1000)
    assert len([e for e in entries if e.refused]) == 10
    assert [e.action for e in entries if not e.refused] == ["CreateKey"]


async def test_keys_know_who_made_them_and_when_they_were_last_used(wire: Wire) -> None:
    first = await make(wire, "admin", "first")
    second = await wire.call(keys.CreateKeyRequest(name="2", role="read"), key=first.secret)
    assert second.key.created_by == first.key.id
    assert first.key.created_by.startswith("given_")
    request, moments = spooled.GetQueueStatsRequest(queue_name="q"), []
    for _ in range(3):
        await wire.call(request, key=second.secret)
        answer = await wire.call(keys.ListKeysRequest())
        (key,) = [k for k in answer.keys if k.id == second.key.id]
        moments.append(key.last_used_at.ToMilliseconds())
        # Noted once in ten minutes.
        wire.clock.advance(5 * 60 + 1)
    assert moments[0] == moments[1] < moments[2]


async def test_an_admin_sees_their_organization_and_the_operator_all(wire: Wire) -> None:
    await make(wire, "read")
    theirs = keys.CreateKeyRequest(organization="acme", name="a", role="admin")
    made = await wire.call(theirs)
    await wire.call(queue_admin.PauseQueueRequest(queue_name="q"), key=made.secret)
    with answered("UNAUTHENTICATED"):
        await wire.call(spooled.GetQueueStatsRequest(queue_name="q"), key="sp_test_wrong")
    assert [e.action for e in await listed(wire, made.secret)] == ["PauseQueue"]
    assert len(await listed(wire)) == 4
    assert len(await listed(wire, organization="default")) == 2
    with answered("PERMISSION_DENIED"):
        await listed(wire, made.secret, organization="default")
    page = await wire.call(keys.ListAuditRequest(page_size=3))
    assert len(page.entries) == 3
    rest = await wire.call(keys.ListAuditRequest(page_token=page.next_page_token))
    assert (len(rest.entries), rest.next_page_token) == (1, "")


async def test_what_was_gathered_is_kept_when_the_server_ends(
    tmp_path: Path, store_url: str
) -> None:
    async with Wire(tmp_path, store=store_url) as wire:
        with answered("UNAUTHENTICATED"):
            await wire.call(spooled.GetQueueStatsRequest(queue_name="q"), key="sp_test_wrong")
    async with Wire(tmp_path, store=store_url) as wire:
        (entry,) = await listed(wire)
        assert (entry.refused, entry.times) == (True, 1)
