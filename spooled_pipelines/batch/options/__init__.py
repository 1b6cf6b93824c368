"""What a user can say about the rows, the files and the table of a batch."""
