"""Export of a trained network: ONNX for the inference engine, safetensors and StableHLO.

This file imports nothing: the graph builder needs onnx and NumPy, but not JAX.
"""
