"""The statements of queries.sql by name, and the migrations by number."""

from __future__ import annotations

from spooled_pipelines.server.store.sql import load_migrations, load_statements

# As bytes, which psycopg takes for a statement from anywhere.
SQL = {name: text.encode() for name, text in load_statements(__package__).items()}
# Each is run once on a database, in order.
MIGRATIONS = load_migrations(__package__)
