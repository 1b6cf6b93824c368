"""The asyncio client, where what both clients share is written."""
