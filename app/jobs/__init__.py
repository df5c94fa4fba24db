"""Jobs: what takes seconds to compute, in a process of its own."""
