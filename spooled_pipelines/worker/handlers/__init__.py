"""Calling handlers: in tasks, in threads and in processes."""
