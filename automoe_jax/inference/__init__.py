"""Using a trained network: decoding, classification, quantisation, latency, scores.

This file imports nothing, so that a module without JAX can be imported without loading it.
"""
