"""What an error from the server means for the worker."""

from __future__ import annotations

from spooled_pipelines.errors import (
    DeadlineExceededError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    SpooledError,
    UnavailableError,
)

_PASSING = (
    UnavailableError,
    DeadlineExceededError,
    RateLimitError,
    QuotaExceededError,
    ServerError,
)


def is_passing(error: SpooledError) -> bool:
    """Whether waiting and trying again can help, as opposed to a wrong key or a wrong name."""
    return isinstance(error, _PASSING) and error.code != "UNIMPLEMENTED"
