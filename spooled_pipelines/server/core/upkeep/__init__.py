"""When a store looks after what it keeps."""
