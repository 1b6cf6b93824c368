"""Batches and their rows in; cancelled and retried as a whole."""
