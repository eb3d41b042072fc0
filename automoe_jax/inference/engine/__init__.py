"""The inference engine: runs an exported folder with ONNX Runtime, without JAX and Flax.

This file imports nothing.
"""
