"""Servers inside another process."""
