"""Search for the best sub-Transformer under a limit, given a score function and a cost function."""
