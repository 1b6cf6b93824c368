"""Airflow itself: what differs between its versions, and its configuration."""
