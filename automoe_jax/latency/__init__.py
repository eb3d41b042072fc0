"""Costs of an architecture on a device: latency, file size and memory of the exported model.

`timing` runs untrained architectures in the deployed engine, `collection` chooses which and records
them in a file, `predictor` predicts the others, and `device` joins them for a search. Nothing here
imports JAX, so that a device needs onnx, onnxruntime and NumPy only.
"""
