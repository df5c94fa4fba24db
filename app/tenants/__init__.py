"""Tenants: all that is known of one, from one database to another."""
