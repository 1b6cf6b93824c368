"""The provider's hook and its connection."""
