"""Batches over asyncio, from which the blocking `batch.sync` is generated."""
