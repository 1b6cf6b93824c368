"""The tables that everything is measured with."""

from __future__ import annotations

import random

import pandas as pd


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
