"""Several systems trained on the same text for the same number of tokens, in one table."""
