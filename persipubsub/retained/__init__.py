"""What a queue retains, looked at without a subscriber: messages, dead letters, positions in their order."""
