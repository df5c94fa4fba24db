"""Checkpoints that serve, their comparison and their drift."""
