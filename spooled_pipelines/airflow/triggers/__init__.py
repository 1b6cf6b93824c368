"""The provider's triggers, and the connection that they share."""
