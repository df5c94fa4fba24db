"""Reviews: what waits for people."""
