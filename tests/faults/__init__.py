"""What the world does to a queue: power cuts, failing and full disks, hostile neighbours."""
