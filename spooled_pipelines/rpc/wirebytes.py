"""Requests may come as messages, or as bytes that are serialized already."""

from __future__ import annotations

from typing import Any


def serialized(request: Any) -> bytes:
    """The request's wire bytes."""
    return request if isinstance(request, bytes) else bytes(request.SerializeToString())
