"""The asyncio side, where what both sides share is written."""
