"""Buffers that continue on disk."""
