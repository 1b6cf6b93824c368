"""Whether workers are there: how often they say so, and when their silence counts."""

from __future__ import annotations

HEARTBEAT_SECONDS = 10
# Two heartbeats missed, and a worker is offline: sooner than a lease of 30 s, the usual one, runs
# out.
OFFLINE_MS = 25_000
# So long ago a Dequeue may be for a queue to count as one that somebody takes jobs of: clients that
# ask for themselves ask as rarely as they like.
POLLED_MS = 50_000
