"""What became of transactions, where that is found out after they were scored."""
