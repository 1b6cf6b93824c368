"""Reads, whose cost does not grow with what is stored."""
