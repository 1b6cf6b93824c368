"""Whether workers are there: how often they say so, and when their silence counts."""

from __future__ import annotations

HEARTBEAT_SECONDS = 10
# Five heartbeats missed, and a worker is offline.
OFFLINE_MS = 5 * HEARTBEAT_SECONDS * 1000
