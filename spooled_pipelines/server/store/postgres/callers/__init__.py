"""Who calls: API keys and their audit, and workers."""
