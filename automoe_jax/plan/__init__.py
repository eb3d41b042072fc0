"""Memory, FLOPs, communication and time of a training step on devices that need not be present."""
