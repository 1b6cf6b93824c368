"""How others see whether a worker is well."""
