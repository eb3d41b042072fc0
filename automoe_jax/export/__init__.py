"""Export of a trained network: ONNX for the inference engine, safetensors and StableHLO.

Nothing is imported here: the graph builder needs onnx and NumPy, and no JAX.
"""
