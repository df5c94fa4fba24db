"""The application put together, and its server."""
