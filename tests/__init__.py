"""Tests of spooled-pipelines; what they share is in `support`."""
