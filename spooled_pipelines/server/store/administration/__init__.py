"""What an operator does to a store from outside of the server."""
