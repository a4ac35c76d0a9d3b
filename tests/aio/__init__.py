"""The queue for asyncio."""
