"""Jobs that a worker has: their leases, contexts and outcomes."""
