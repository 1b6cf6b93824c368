"""What the worker of compose.yaml does with a job of the queue `orders`."""

from __future__ import annotations

from typing import Any


def charge(job: Any) -> dict[str, float]:
    return {"charged": round(job.payload["amount"] * 1.2, 2)}
