"""The ONNX graph of each kind of router; its declaration in `automoe_jax.routers` loads it."""
