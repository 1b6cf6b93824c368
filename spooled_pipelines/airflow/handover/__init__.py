"""What a task hands on: batches to other tasks, and events to itself."""
