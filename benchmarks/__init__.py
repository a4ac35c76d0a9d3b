"""Measures persipubsub beside py-lmdb itself, its peers, and channels that keep nothing: ``python -m benchmarks``."""
