"""The arithmetic of a batch, compiled: what PyTorch and NumPy spend most of on calls, not on sums.

Each file does the work of the module of its name, on plain arrays, for CPUs.
"""
