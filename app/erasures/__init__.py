"""Erasure of accounts, and the certificates of it."""
