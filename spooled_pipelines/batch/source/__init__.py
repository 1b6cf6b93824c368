"""Open any supported table as record batches."""
