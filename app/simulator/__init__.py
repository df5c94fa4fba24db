"""A world of accounts, merchants and thieves: transactions to train on without one's own."""
