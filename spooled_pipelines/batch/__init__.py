"""A table in, a batch of jobs out, and the wait for it."""
