"""Connections to the file, whose it is, and names behind numbers."""
