"""Connections to PostgreSQL, the schema that they find, and names behind numbers."""
