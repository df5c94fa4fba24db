"""Webhooks: who is to hear of what, and that it arrives."""
