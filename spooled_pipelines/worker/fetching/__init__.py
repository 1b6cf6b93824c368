"""Fetching jobs: how many, when, and which may begin."""
