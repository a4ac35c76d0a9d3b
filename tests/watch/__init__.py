"""Watching queues, in the terminal and in the browser."""
