"""What a score is: transaction, features, network, adaptation. No HTTP, no SQL."""
