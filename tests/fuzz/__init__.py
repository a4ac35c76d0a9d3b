"""Damaged files, and input of any kind: random, seeded, and tried for as long as one likes by the long run."""
