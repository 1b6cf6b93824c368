"""Jobs in PostgreSQL, for as many servers as one likes on one database."""
