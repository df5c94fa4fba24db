"""Quickstudy: fraud scores that learn each account from a handful of labels."""

from importlib.metadata import version

__version__ = version("quickstudy")
