"""Constants that the functions of `ops` and the exported graphs share; imports no JAX."""

EPSILON = 1e-5  # added to a LayerNorm's variance
# score of a key that is not attended to: finite, so that a row without any key gives numbers; its
# exponential is exactly 0 next to any real score
MASKED = -1e9
# Importances that differ only by rounding, as with and without a cache, give the same number of
# experts.
ROUNDING = 1e-5
SPREAD = 0x9E3779B9  # 2³² / golden ratio, odd: separates neighbouring numbers in hashes
# shifts and factors of the finaliser of MurmurHash3 on 32 bits, before a last shift by 16
MURMUR = ((16, 0x85EBCA6B), (13, 0xC2B2AE35))
