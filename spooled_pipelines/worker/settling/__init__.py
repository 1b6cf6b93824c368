"""Settling: telling the server what became of jobs."""
