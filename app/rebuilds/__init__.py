"""States and features computed anew, by replaying stored payments, when the features change."""
