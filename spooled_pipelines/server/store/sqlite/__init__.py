"""Jobs in one SQLite file: one writer that commits what has gathered, readers beside it."""
