"""The life of a job: enqueued, claimed, settled, and what time brings."""
