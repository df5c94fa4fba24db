"""Logs, metrics, tracing, and tasks in the background."""
