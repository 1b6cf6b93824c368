"""Batches over asyncio: what is written here is made into `batch.sync` as well."""
