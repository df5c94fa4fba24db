"""Labels: what each does, and how it is forgotten."""
