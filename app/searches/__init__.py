"""Searches for payments that people save under a name."""
