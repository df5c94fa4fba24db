"""Accounts: their state, their labels counted, and lists of them."""
