"""Tests of the JetStream engine against real servers."""
