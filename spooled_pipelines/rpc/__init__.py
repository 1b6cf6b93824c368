"""A channel to a Spooled server and the calls on it: address, TLS, key, retries, errors, values."""
