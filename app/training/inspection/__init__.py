"""What a file of transactions probably is: a spec with a comment for each guess, and questions."""
