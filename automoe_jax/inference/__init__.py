"""Using a trained network: decoding, classification, quantisation, latency, scores.

Nothing is imported here, so that a part which needs no JAX can be loaded without it.
"""
