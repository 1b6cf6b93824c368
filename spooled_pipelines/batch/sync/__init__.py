"""Batches with blocking calls: made from `batch.aio`, but for `runtime`."""
