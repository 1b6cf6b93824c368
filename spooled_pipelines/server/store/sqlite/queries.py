"""The statements of queries.sql by name, and the migrations by number."""

from __future__ import annotations

from spooled_pipelines.server.store.sql import load_migrations, load_statements

SQL = load_statements(__package__)
# Each is run once on a file, in order.
MIGRATIONS = load_migrations(__package__)
