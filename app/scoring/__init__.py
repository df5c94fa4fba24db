"""Scoring: one batch, from the posted transactions to the committed answers."""
