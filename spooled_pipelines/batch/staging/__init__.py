"""Key the encoded rows, put them aside, and cut them into chunks."""
