"""The asyncio side, from which the blocking one is generated."""
