"""A store tells which keys its jobs have, and changes nothing for that."""

from __future__ import annotations

from typing import Any

from spooled_pipelines.server.store.requests import KeyQuery
from tests.support.store_kit import ORGANIZATION, StoreKit, chunk

HASH = "00112233445566778899aabbccddeeff"
KEYS = ["k", HASH, HASH.upper(), "é" * 100]


async def test_the_keys_of_a_queues_jobs_are_found_by_place(kit: StoreKit) -> None:
    for key in KEYS[1:]:
        await kit.enqueue(idempotency_key=key)
    await kit.enqueue("other", idempotency_key="k")
    await kit.enqueue()

    async def find(organization: str, *query: Any) -> list[int]:
        return (await kit.store.find_keys(organization, KeyQuery(*query))).found

    kit.changed()
    assert await find(ORGANIZATION, "q", ["none", *KEYS, HASH]) == [2, 3, 4, 5]
    assert await find(ORGANIZATION, "other", KEYS) == [0]
    assert await find(ORGANIZATION, "nowhere", KEYS) == []
    assert await find("another", "q", KEYS) == []
    assert await find(ORGANIZATION, "q", []) == []
    assert not any(vars(kit.changed()).values())


async def test_the_keys_of_a_batchs_rows_are_found(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "x", "y")
    keys = chunk("b", ["y", "z", "x"]).keys
    assert await kit.store.find_keys(ORGANIZATION, KeyQuery("q", keys)) == ([0, 2], [])
