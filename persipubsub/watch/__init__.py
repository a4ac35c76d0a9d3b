"""Watching many queues: what the live table in a terminal and the page in a browser have in common."""
