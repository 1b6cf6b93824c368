"""The provider's sensor."""
