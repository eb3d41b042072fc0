"""Constants that the functions of `ops` and the exported graphs share; imports no JAX."""

EPSILON = 1e-5  # added to a LayerNorm's variance
# score of a key that is not attended to: finite, so that a row without any key gives numbers; its
# exponential is exactly 0 next to any real score
MASKED = -1e9
