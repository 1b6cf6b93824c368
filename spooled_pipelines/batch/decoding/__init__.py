"""Payloads and results, which are Structs as wire bytes, as Arrow columns."""
