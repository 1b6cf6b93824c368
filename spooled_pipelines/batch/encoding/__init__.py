"""Encode the columns of record batches as protobuf wire bytes."""
