"""Batches: what they are, what is refused of them, and why one does not move."""
