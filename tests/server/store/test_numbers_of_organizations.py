"""The ids of an organization count its own jobs alone: what others make does not show in them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.batches.records import BatchOpening
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.services.encoding import chunk_outcome, columns_message
from spooled_pipelines.server.services.validation.chunks import RowsChecked
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.server.store.administration.copying import copy
from spooled_pipelines.server.store.administration.organizations import delete
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.requests import BatchJobs, JobListing, QueueSelector
from spooled_pipelines.wire import batch_v1
from tests.support import forked
from tests.support.postgres import Cluster
from tests.support.store_kit import StoreKit, chunk, new_job, refused

ME, OTHER = "acme", "other"


async def single(store: JobStore, who: str) -> list[str]:
    return [(await store.enqueue(who, new_job())).job_id]


async def keyed_together(store: JobStore, who: str) -> list[str]:
    """Two singles that are stored with what another organization enqueues at that moment."""
    name = (await single(store, who))[0]
    mine = [new_job(idempotency_key=f"{name}-{each}") for each in "ab"]
    waiting = [asyncio.ensure_future(store.enqueue(who, job)) for job in mine]
    others = [store.enqueue(OTHER, new_job()) for _ in range(3)] if who == ME else []
    await asyncio.gather(*others)
    return [name, *(each.job_id for each in await asyncio.gather(*waiting))]


async def rows(store: JobStore, who: str) -> list[str]:
    name = (await single(store, who))[0]
    await store.open_batch(who, BatchOpening("b", "q", ""))
    stored = await store.add_chunk(who, chunk("b", [name, name + "x"], upload_id=name))
    first = stored.first or 0
    return [name, *ids.job_ids(store.job_ids_prefix(), range(first, first + stored.rows))]


Door: TypeAlias = Callable[[JobStore, str], Awaitable[list[str]]]
DOORS: list[Door] = [single, keyed_together, rows]


def are_consecutive(job_ids: Sequence[str]) -> bool:
    """Whether each is the one behind that before it, as the caller sees them."""
    places = [int(job_id.replace("-", ""), 16) for job_id in job_ids]
    return sorted(places) == [*range(min(places), min(places) + len(places))]


async def opened(url: str) -> JobStore:
    store = open_store(url, SystemClock())
    await store.open(lambda _: None)
    return store


async def made(url: str, who: str, count: int = 1) -> list[str]:
    store = await opened(url)
    found = [each for _ in range(count) for each in await single(store, who)]
    await store.close()
    return found


def is_beyond(later: Iterable[str], earlier: Iterable[str]) -> bool:
    return min(later) > max(earlier)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("first", [ME, OTHER])
async def test_what_others_enqueue_in_between_does_not_show(
    kit: StoreKit, door: Door, first: str
) -> None:
    mine = await single(kit.store, ME) if first == ME else []
    for other in DOORS:
        await other(kit.store, OTHER)
        mine += await door(kit.store, ME)
    assert are_consecutive(mine)


async def test_one_organization_cannot_name_the_jobs_of_another(kit: StoreKit) -> None:
    (mine,), (other,) = await single(kit.store, ME), await single(kit.store, OTHER)
    assert mine[-12:] == other[-12:]
    assert (await kit.store.job(ME, mine)).job_id == mine
    with refused("NOT_FOUND"):
        await kit.store.job(ME, other)


async def test_pages_and_their_tokens_are_of_ones_own_jobs_alone(kit: StoreKit) -> None:
    for who in (ME, OTHER, ME, OTHER, ME):
        await single(kit.store, who)
    for who in (ME, OTHER):
        query: JobListing | None = JobListing(None, limit=1)
        seen: list[int] = []
        while query is not None:
            page = await kit.store.jobs(who, query)
            seen += [job.seq for job in page.jobs]
            query = None if page.after is None else JobListing(None, limit=1, before=page.after)
        assert seen == [*range(seen[0], seen[0] - len(seen), -1)]
        assert len(seen) == (3 if who == ME else 2)


async def test_a_purge_takes_what_is_there_of_a_later_organization_too(kit: StoreKit) -> None:
    for who in (ME, OTHER, OTHER):
        await single(kit.store, who)
    outcome = await kit.store.cancel(OTHER, QueueSelector("q"))
    assert outcome.cancelled == 2
    assert await kit.queue_counts() == {"pending": 1}


async def test_answers_by_column_name_the_jobs_that_they_are_about(kit: StoreKit) -> None:
    await single(kit.store, ME)
    await kit.store.open_batch(OTHER, BatchOpening("b", "q", ""))
    stored = await kit.store.add_chunk(OTHER, chunk("b", "xyz"))
    prefix, first = kit.store.job_ids_prefix(), stored.first or 0
    wanted = ids.job_ids(prefix, range(first, first + 3))
    outcome = batch_v1.EnqueueBatchResponse.FromString(
        chunk_outcome(prefix, RowsChecked(0, 3, {}), stored)
    )
    assert outcome.outcome.job_ids == wanted
    page = await kit.store.job_columns(OTHER, BatchJobs("b", (Status.PENDING,), 0, 9), None)
    found = batch_v1.ListBatchJobsResponse.FromString(columns_message(prefix, page))
    assert found.columns.job_ids == wanted


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
async def test_servers_side_by_side_number_together(store_url: str) -> None:
    stores = [await opened(store_url) for _ in range(2)]
    who = ["a", "b", "c"]
    found = await asyncio.gather(
        *(
            store.enqueue(each, new_job())
            for order, store in zip((who, who[::-1]), stores, strict=True)
            for each in order * 20
        )
    )
    by_start: dict[str, list[str]] = {}
    for each in found:
        by_start.setdefault(each.job_id[:-12], []).append(each.job_id)
    assert [len(job_ids) for job_ids in by_start.values()] == [40] * 3
    assert all(map(are_consecutive, by_start.values()))
    for store in stores:
        await store.close()


async def test_a_restarted_server_counts_on(store_url: str) -> None:
    mine = await made(store_url, ME)
    for _ in range(2):
        await made(store_url, OTHER, 3)
        mine += await made(store_url, ME)
    assert are_consecutive(mine)


# Says each id that it was given, for two organizations in turns, until it is killed.
_ENQUEUES = """
import asyncio, sys
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.open import open_store
from tests.support.store_kit import new_job

async def main():
    store = open_store(sys.argv[1], SystemClock())
    await store.open(lambda _: None)
    while True:
        for who in ("acme", "other"):
            print(who, (await store.enqueue(who, new_job())).job_id, flush=True)

asyncio.run(main())
"""


async def test_a_killed_server_gives_no_id_twice(store_url: str) -> None:
    given: dict[str, list[str]] = {ME: [], OTHER: []}
    command = [sys.executable, "-c", _ENQUEUES, store_url]
    process = forked.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while min(map(len, given.values())) < 20:
        who, job_id = (await asyncio.to_thread(process.stdout.readline)).split()
        given[who].append(job_id)
    process.send_signal(signal.SIGKILL)
    for line in process.stdout:
        if line.endswith("\n"):
            who, job_id = line.split()
            given[who].append(job_id)
    process.wait()
    process.stdout.close()
    for who, before in given.items():
        later = await made(store_url, who, 3)
        assert is_beyond(later, before)
        store = await opened(store_url)
        for job_id in (*before, *later):
            assert (await store.job(who, job_id)).job_id == job_id
        await store.close()


@pytest.mark.parametrize("way", ["to_postgresql", "to_sqlite"])
async def test_a_copy_keeps_ids_and_goes_on_beyond_them(
    tmp_path: Path, cluster: Cluster, way: str
) -> None:
    source, target = f"sqlite:///{tmp_path / 'jobs.db'}", cluster.empty_database()
    if way == "to_sqlite":
        source, target = target, source
    given = {who: await made(source, who, 2) for who in (ME, OTHER, "gone")}
    await asyncio.to_thread(delete, source, "gone", lambda _: None)
    await asyncio.to_thread(copy, source, target, lambda *_: None)
    store = await opened(target)
    for who in (ME, OTHER):
        for job_id in given[who]:
            assert (await store.job(who, job_id)).job_id == job_id
        assert is_beyond(await single(store, who), given[who])
    # Nor does one that is new there begin its ids as one that was deleted.
    (new,) = await single(store, "new")
    assert new[:-12] not in {job_ids[0][:-12] for job_ids in given.values()}
    await store.close()


async def test_ids_of_a_deleted_organization_do_not_come_again(store_url: str) -> None:
    mine, gone = await made(store_url, ME), await made(store_url, OTHER, 3)
    await asyncio.to_thread(delete, store_url, OTHER, lambda _: None)
    for who in ("new", OTHER):
        later = await made(store_url, who, 3)
        assert later[0][:-12] not in {gone[0][:-12], mine[0][:-12]}
    assert are_consecutive(mine + await made(store_url, ME))


async def test_no_more_organizations_than_have_numbers(
    kit: StoreKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "ORGANIZATIONS_MAX", 3)
    found = [each for who in (ME, OTHER, "last") for each in await single(kit.store, who)]
    assert len(set(found)) == 3
    assert (await kit.store.job("last", found[2])).job_id == found[2]
    with refused("RESOURCE_EXHAUSTED", "made 3 organizations"):
        await single(kit.store, "one-more")
    await single(kit.store, ME)


async def test_the_number_of_an_organization_does_not_tell_how_many_there_were(
    kit: StoreKit,
) -> None:
    found = [each for who in "abcdef" for each in await single(kit.store, who)]
    numbers = [ids.job_number(kit.store.job_ids_prefix(), each) or 0 for each in found]
    organizations = [number >> ids.PLACE_BITS for number in numbers]
    # The first one has short numbers, as a store for one organization alone has.
    assert organizations[0] == 0
    assert sum(organizations) > 1_000


async def opened_batches(store: JobStore, who: str, *names: str) -> None:
    for name in names:
        await store.open_batch(who, BatchOpening(name, "q", ""))


async def test_a_page_token_is_of_its_listing_organization_and_store_alone(
    kit: StoreKit, tmp_path: Path
) -> None:
    tokens = kit.store.page_tokens
    token = tokens.token("batches", ME, 7)
    assert tokens.number("batches", ME, token) == 7
    assert tokens.number("batches", ME, "") == 0
    for number in (0, 1, 2**62):
        assert tokens.number("audit", None, tokens.token("audit", None, number)) == number
    other = await opened(f"sqlite:///{tmp_path / 'another.db'}")
    flipped = [f"{int(token, 16) ^ 1 << bit:032x}" for bit in range(128)]
    wrong = [token.upper(), token[:16], token + "00", f" {token}", "7", "é", "0" * 32, *flipped]
    for each in (*wrong, tokens.token("audit", ME, 7), tokens.token("batches", OTHER, 7)):
        with refused("INVALID_ARGUMENT", "is not one that this server gave out"):
            tokens.number("batches", ME, each)
    with refused("INVALID_ARGUMENT"):
        other.page_tokens.number("batches", ME, token)
    await other.close()


async def test_a_page_token_is_good_for_other_servers_of_the_store_and_later_ones(
    store_url: str,
) -> None:
    store = await opened(store_url)
    token = store.page_tokens.token("batches", ME, 7)
    await store.close()
    later = await opened(store_url)
    assert later.page_tokens.number("batches", ME, token) == 7
    await later.close()


@pytest.mark.parametrize("organization", [1, 2, 4096, 4097, ids.ORGANIZATIONS_MAX])
def test_an_id_has_the_number_of_its_job(organization: int) -> None:
    prefix, numbers = ids.new_prefix(), ids.numbers_of(organization)
    seqs = [numbers[1], numbers[2], numbers[-1]]
    texts = ids.job_ids(prefix, seqs)
    assert texts == [ids.job_id(prefix, seq) for seq in seqs]
    assert [ids.job_number(prefix, text) for text in texts] == ids.job_numbers(prefix, texts)
    assert ids.job_numbers(prefix, texts) == seqs
    assert ids.job_number(ids.new_prefix(), texts[0]) is None
    mixed = [*texts, ids.job_id(prefix, 7), "no"]
    assert ids.job_numbers(prefix, mixed) == [*seqs, 7, None]


def test_what_is_beyond_all_numbers_is_no_id() -> None:
    prefix = ids.new_prefix()
    start, variant = prefix[:16], prefix[19]
    for wrong in (
        f"{start}40-{variant}000-000000000001",
        f"{start}00-{variant}000-100000000001",
        f"{start}00-{variant}000-00000000000A",
        f"{start}00-{variant}000-0000000000010",
        f"{start}00-{variant}000-00000000001",
    ):
        assert ids.job_number(prefix, wrong) is None
        assert ids.job_numbers(prefix, [wrong]) == [None]
