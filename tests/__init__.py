"""Tests of persipubsub."""
