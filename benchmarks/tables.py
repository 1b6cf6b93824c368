"""The tables that everything is measured with."""

from __future__ import annotations

import random
from collections.abc import Callable

import pandas as pd
import pyarrow as pa

_WORDS = (
    *("late", "aircraft", "weather", "carrier", "security", "gate", "changed", "passenger"),
    *("baggage", "crew", "rotation", "slot", "fuel", "de-icing", "runway", "closed"),
    *("inspection", "diverted", "connection", "missed", "rebooked", "hotel"),
)


def flights(rows: int, seed: int = 1) -> pd.DataFrame:
    """Six columns: two whole numbers, two texts, a float and a truth value."""
    chance = random.Random(seed)
    return pd.DataFrame(
        {
            "flight": range(rows),
            "carrier": [chance.choice(("AA", "UA", "B6", "DL", "EV")) for _ in range(rows)],
            "origin": [chance.choice(("JFK", "LGA", "EWR")) for _ in range(rows)],
            "delay": [round(chance.gauss(12, 40), 1) for _ in range(rows)],
            "distance": [chance.randrange(80, 5_000) for _ in range(rows)],
            "cancelled": [chance.random() < 0.02 for _ in range(rows)],
        }
    )


def texts(rows: int, seed: int = 2) -> pd.DataFrame:
    """Six columns of text, from a few letters to half a kilobyte, some beyond ASCII, some null."""
    chance = random.Random(seed)

    def prose(words: int) -> str:
        return " ".join(chance.choices(_WORDS, k=chance.randrange(1, words)))

    return pd.DataFrame(
        {
            "ticket": [f"T-{number:08d}" for number in range(rows)],
            "name": [f"{prose(3)} Müller" for _ in range(rows)],
            "subject": [prose(12) for _ in range(rows)],
            "body": [prose(120) for _ in range(rows)],
            "reply": [prose(60) if chance.random() < 0.5 else None for _ in range(rows)],
            "tags": [prose(5) for _ in range(rows)],
        }
    )


def mixed(rows: int, seed: int = 5) -> pd.DataFrame:
    """Return the flights, and a column of Python's values of different types."""
    chance = random.Random(seed)
    make: tuple[Callable[[], object], ...] = (
        lambda: chance.randrange(10_000),
        lambda: chance.choice(_WORDS),
        chance.random,
        lambda: None,
        lambda: chance.random() < 0.5,
        lambda: {"sku": chance.choice(_WORDS), "count": chance.randrange(9)},
        lambda: [chance.randrange(9), chance.choice(_WORDS)],
    )
    values = [chance.choice(make)() for _ in range(rows)]
    return flights(rows).assign(value=pd.Series(values, dtype=object))


def nested(rows: int, seed: int = 3) -> pa.Table:
    """Return a number, nested structs, a list of structs, a list of numbers, and a map."""
    chance = random.Random(seed)
    item = pa.struct([("sku", pa.string()), ("count", pa.int32()), ("price", pa.float64())])
    customer = pa.struct(
        [
            ("name", pa.string()),
            ("address", pa.struct([("city", pa.string()), ("zip", pa.int32())])),
        ]
    )

    def one_item() -> dict[str, object]:
        price = round(chance.random() * 100, 2)
        return {"sku": chance.choice(_WORDS), "count": chance.randrange(9), "price": price}

    def one_customer() -> dict[str, object]:
        address = {"city": chance.choice(_WORDS), "zip": chance.randrange(99_999)}
        return {"name": chance.choice(_WORDS), "address": address}

    def up_to(most: int) -> range:
        return range(chance.randrange(most))

    return pa.table(
        {
            "order": pa.array(range(rows), pa.int64()),
            "customer": pa.array([one_customer() for _ in range(rows)], customer),
            "items": pa.array(
                [[one_item() for _ in up_to(5)] for _ in range(rows)], pa.list_(item)
            ),
            "scores": pa.array(
                [[chance.random() for _ in up_to(6)] for _ in range(rows)], pa.list_(pa.float64())
            ),
            "labels": pa.array(
                [
                    [(word, chance.random()) for word in _WORDS[: chance.randrange(4)]]
                    for _ in range(rows)
                ],
                pa.map_(pa.string(), pa.float64()),
            ),
        }
    )


def wide(rows: int, seed: int = 4) -> pd.DataFrame:
    """Return a hundred columns of the four types that `flights` has, some with nulls."""
    chance = random.Random(seed)
    makers = (
        lambda: chance.randrange(10_000),
        lambda: chance.choice(_WORDS),
        lambda: round(chance.gauss(0, 9), 3) if chance.random() < 0.9 else None,
        lambda: chance.random() < 0.5,
    )
    return pd.DataFrame(
        {f"column_{n:03d}": [makers[n % 4]() for _ in range(rows)] for n in range(100)}
    )
