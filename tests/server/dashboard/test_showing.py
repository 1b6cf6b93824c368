"""What the pages say: numbers, verdicts, errors, and hostile text as text."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from spooled_pipelines.server.dashboard import formatting
from spooled_pipelines.server.dashboard.throughput import Rate, Rates
from spooled_pipelines.text import plain
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.paged_wire import HOSTILE, SCRIPT, PagedWire, Reader, read
from tests.support.wire import KEY, struct


async def complete(wire: PagedWire, queue_name: str = "q") -> None:
    job = await wire.claim(queue_name)
    await wire.call(
        spooled.CompleteRequest(
            job_id=job.id, worker_id="w", lease_id=job.lease_id, result=struct(done=True)
        )
    )


async def test_a_queue_shows_depth_age_and_rates(wire: PagedWire) -> None:
    await wire.fill_batch("b-1", *"12345")
    await wire.enqueue("q", scheduled_at=None)
    await complete(wire)
    await wire.claim()
    await wire.kill_one("boom")
    async with wire.visitor() as visitor:
        assert "…" in read(await visitor.page("/queues"))
        wire.clock.advance(10)
        for _ in range(3):
            await wire.enqueue()
        await complete(wire)
        row = read(await visitor.part("/queues")).partition("Out / s ")[2]
        # Ready, running, later, dead, oldest, in, out.
        assert row == "q running 5 1 0 1 10 s 0.3 0.1"
        page = read(await visitor.page("/queues/q"))
        assert "2 completed 1 dead letters 1 running 5 pending" in page


async def test_a_batch_shows_what_became_of_it(wire: PagedWire) -> None:
    await wire.fill_batch("b-1", "one", "two", "three", name="nightly")
    async with wire.visitor() as visitor:
        shown = await visitor.page("/batches/b-1")
        assert "<code>spooled-pipelines work q module:handler</code>" in shown
        page = read(shown)
        assert "nightly stalled" in page
        assert "no worker takes them" in page
        await wire.kill_one("a <b>bold</b> failure")
        await complete(wire)
        page = read(await visitor.part("/batches/b-1"))
        assert "2 of 3 jobs have ended" in page
        await complete(wire)
        page = read(await visitor.part("/batches/b-1"))
        assert "failed in part 1 row became dead letters." in page
        assert "Jobs Error 1 a <b>bold</b> failure" in page
        await visitor.act("/batches/b-1/retry")
        await complete(wire)
        assert "completed Every row is done." in read(await visitor.page("/batches/b-1"))
        assert "nightly q completed" in read(await visitor.page("/batches"))


async def test_jobs_that_wait_for_a_retry_say_why_and_are_not_stalled(wire: PagedWire) -> None:
    await wire.fill_batch("b-1", "one", name="nightly")
    job = await wire.claim()
    await wire.call(
        spooled.FailRequest(
            job_id=job.id, worker_id="w", lease_id=job.lease_id, error="HTTP 503 <b>", retry=True
        )
    )
    async with wire.visitor() as visitor:
        shown = read(await visitor.page("/queues/q"))
        assert "q retrying" in shown
        assert "Jobs Error Next try 1 HTTP 503 <b> in 1 min" in shown
        assert "nightly retrying" in read(await visitor.page("/batches/b-1"))


async def test_jobs_are_found_by_status_and_text_a_page_at_a_time(wire: PagedWire) -> None:
    await wire.fill_batch("b-1", *(f"row-{number:03}" for number in range(60)))
    dead = await wire.kill_one("timeout")
    async with wire.visitor() as visitor:
        first = Reader(await visitor.part("/batches/b-1", "found"))
        assert first.text.count("row-") == 50
        (following,) = [a["href"] for _, a in first.elements if a.get("rel") == "next"]
        assert following is not None
        assert Reader(await visitor.page(following)).text.count("row-") == 10
        for query in ("status=deadletter", "text=timeout", f"text={dead}", "text=row-000"):
            page = await visitor.part(f"/batches/b-1?{query}", "found")
            assert Reader(page).text.count("row-") == 1, query
        page = read(await visitor.part("/batches/b-1?status=completed&text=timeout", "found"))
        assert page == "No job is like this."
        assert (await visitor.get(f"/jobs?id={dead}")).headers["location"] == f"/jobs/{dead}"


async def test_a_job_shows_lease_attempts_and_contents(wire: PagedWire) -> None:
    job_id = await wire.enqueue(payload=struct(amount=9.5, big=2.0**53, list=[1, None, True]))
    job = await wire.claim(lease_duration_secs=60)
    wire.clock.advance(20)
    async with wire.visitor() as visitor:
        page = read(await visitor.page(f"/jobs/{job_id}"))
        assert "Leased to w Lease 40 s left" in page
        assert "9.5" not in page
        contents = read(await visitor.part(f"/jobs/{job_id}/contents", "contents"))
        assert '"amount": 9.5, "big": 9007199254740992, "list": [ 1, null, true ]' in contents
        failed = spooled.FailRequest(
            job_id=job_id, worker_id="w", lease_id=job.lease_id, error="first"
        )
        await wire.call(failed)
        page = read(await visitor.page(f"/jobs/{job_id}"))
        assert "Retries 1 of 3" in page
        assert "20 s w first" in page


async def test_hostile_text_is_text(wire: PagedWire) -> None:
    name = f"\u202e{SCRIPT}\u2066"
    await wire.fill_batch("b-1", "one", name=name)
    worker = spooled.RegisterWorkerRequest(
        queue_name="q", worker_id="w", hostname=SCRIPT, worker_type="\u202eevil", version="\0"
    )
    await wire.call(worker, "Register")
    await wire.call(spooled.HeartbeatRequest(worker_id="w", status=SCRIPT))
    payload = struct(**{SCRIPT: HOSTILE, "\u202e": "\0\u2028"})
    job_id = await wire.enqueue("q", payload=payload, idempotency_key=f"{SCRIPT}\u202e", priority=9)
    assert await wire.kill_one(HOSTILE) == job_id
    await wire.kill_one(HOSTILE)
    paths = (
        "/batches",
        "/batches/b-1",
        "/queues/q",
        "/queues/q/dead-letters",
        "/workers",
        f"/jobs/{job_id}",
        f"/jobs/{job_id}/contents",
    )
    async with wire.visitor() as visitor:
        for path in paths:
            page = await visitor.page(path)
            reader = Reader(page)
            tags = [tag for tag, _ in reader.elements]
            assert tags.count("script") == 3, path
            assert "img" not in tags
            assert SCRIPT in reader.text, path
            for hidden in ("\0", "\u202e", "\u202c", "\u2066", "\u2028"):
                assert hidden not in page, path
        contents = Reader(await visitor.page(f"/jobs/{job_id}/contents")).text
        assert "⟨U+202E⟩gnp.exe⟨U+202C⟩ \\u0000" in contents
        for text in (SCRIPT, "\u202e", "\0", "x" * 2_048, "x" * 3_000):
            answer = await visitor.client.get("/batches/b-1", params={"text": text, "status": text})
            assert answer.status_code == (400 if len(text) > 2_048 else 200)
            assert [tag for tag, _ in Reader(answer.text).elements].count("script") == 3
        for path in ("/queues/%3Cscript%3E", "/batches/%00", "/jobs/%E2%80%AE", "/jobs?id=%3Cb%3E"):
            assert (await visitor.get(path)).status_code in (400, 404)


async def test_an_action_says_once_what_it_did(paged: PagedWire) -> None:
    await paged.fill_batch("b-1", "one", "two")
    await paged.kill_one("boom")
    async with paged.visitor() as visitor:
        for path, form, where, said in (
            ("/queues/q/pause", {}, "/queues/q", "Queue q is paused"),
            ("/queues/q/resume", {}, "/queues/q", "hands out jobs again"),
            (
                "/queues/q/dead-letters/retry",
                {"error_contains": "other"},
                "/queues/q/dead-letters",
                "No dead letter was retried",
            ),
            (
                "/queues/q/dead-letters/retry",
                {"error_contains": "oo"},
                "/queues/q/dead-letters",
                "1 dead letters are back",
            ),
            ("/batches/b-1/cancel", {"generation": "0"}, "/batches/b-1", "2 jobs of this batch"),
            ("/batches/b-1/retry", {}, "/batches/b-1", "No dead letter was retried"),
        ):
            token = (await visitor.act(path, **form)).headers["location"]
            assert token == where
            assert said in read(await visitor.page(where)), path
            assert said not in read(await visitor.page(where))
        counts = (await paged.call(batch.GetBatchStatsRequest(batch_ids=["b-1"]))).batches[0]
        assert counts.cancelled == 2


async def test_probes_tell_machines_how_the_server_is(tmp_path: Path) -> None:
    wire = PagedWire(tmp_path)
    await wire.server.start()
    async with wire.visitor(None) as visitor:
        assert (await visitor.get("/healthz")).text == "ok\n"
        assert (await visitor.get("/readyz")).text == "ready\n"
        wire.server._readiness.stopping = True
        answer = await visitor.get("/readyz")
        assert (answer.status_code, "stopping" in answer.text) == (503, True)
        wire.server._readiness.stopping = False

        async def hangs(*_: str) -> None:
            await asyncio.Event().wait()

        wire.store.queue = hangs  # type: ignore[method-assign,assignment]
        answer = await visitor.get("/readyz")
        assert (answer.status_code, "does not answer" in answer.text) == (503, True)
    await wire.server.stop()


async def test_too_many_requests_are_told_when_to_come_back(tmp_path: Path) -> None:
    async with PagedWire(tmp_path, rate_limit=1) as wire, wire.visitor() as visitor:
        # Two at once are allowed, and signing in was the first.
        answers = [await visitor.get("/queues") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert answers[-1].headers["retry-after"] == "1"
        assert "requests a second" in read(answers[-1].text)
        assert KEY not in answers[-1].text


async def test_a_port_that_is_taken_is_said_and_leaves_nothing_open(tmp_path: Path) -> None:
    async with PagedWire(tmp_path / "a") as wire:
        other = PagedWire(tmp_path / "b", http=wire.url.split("/")[2])
        with pytest.raises(OSError, match="for the dashboard"):
            await other.server.start()
    for address in ("8080", "localhost:", "localhost:99999"):
        with pytest.raises(ValueError, match=r"http address .* HOST:PORT"):
            await PagedWire(tmp_path / "b", http=address).server.start()
    async with PagedWire(tmp_path / "b") as free:
        await free.enqueue()


def test_rates_are_those_of_the_last_minute() -> None:
    rates = Rates()
    assert rates.see("q", 0, 100, 0) is None
    assert rates.see("q", 1_000, 110, 5) is None
    assert rates.see("q", 10_000, 200, 50) == Rate(10, 5)
    # Counters that fall (old jobs that went) are no negative rate.
    assert rates.see("q", 20_000, 50, 20) == Rate(0, 1)
    # After an hour in which nobody looked there is nothing to compare with.
    assert rates.see("q", 3_600_000, 900, 900) is None
    # Nor where the clock was set back.
    assert rates.see("q", 1_000_000, 900, 900) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\tc", "a\nb\tc"),
        ("\0\x1b[31m\x7f", "␀␛[31m⟨U+007F⟩"),
        ("\u202eabc\u202c\u200b\ufeff", "⟨U+202E⟩abc⟨U+202C⟩⟨U+200B⟩⟨U+FEFF⟩"),
        ("שלום 你好 🙂 é", "שלום 你好 🙂 é"),
    ],
)
def test_what_cannot_be_seen_is_made_visible(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_a_payload_has_an_end() -> None:
    text = formatting.payload(struct(text="x" * 200_000))
    assert len(text) < 101_000
    assert text.endswith("characters more")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (7_300, "2 h"), (90_000, "1 d"), (1e9, "11 574 d")],
)
def test_durations_are_said_in_the_largest_unit(seconds: float, expected: str) -> None:
    assert formatting.duration(seconds).replace("\u00a0", " ").replace("\u202f", " ") == expected
