"""The provider's task decorator."""
