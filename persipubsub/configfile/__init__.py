"""Deployment files: their shape, and how they are read without being trusted."""
