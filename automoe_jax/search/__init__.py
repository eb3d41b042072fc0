"""The search for the best sub-Transformer under a limit; it knows no model, only a score and a
cost.
"""
