"""Thresholds of tenants."""
