"""Demonstration payments for an empty tenant: simulated ones, up to now."""
