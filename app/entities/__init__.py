"""Entities: devices, addresses, cards, merchants, …, and which accounts use them."""
