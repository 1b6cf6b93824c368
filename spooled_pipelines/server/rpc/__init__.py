"""gRPC: the interceptor, health, TLS and channel options."""
