"""The messages on the wire, made from proto/: `spooled_v1`, `batch_v1`, and `methods`."""
