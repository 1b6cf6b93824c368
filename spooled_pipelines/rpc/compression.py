"""Whether what is sent is worth compressing."""

from __future__ import annotations

# gzip makes rows a fifth of their size, at some 60 MB a second and core: it pays where the way to
# the server is slower than that. A network that answers sooner than this is most often faster.
_FAR_SECONDS = 0.002


def pays(*, is_local: bool, round_trip: float | None) -> bool:
    """`round_trip`: the quickest answer that was seen, in seconds; None: none yet."""
    return not is_local and round_trip is not None and round_trip >= _FAR_SECONDS
