"""Figures about many payments, counted now and then and kept meanwhile."""
