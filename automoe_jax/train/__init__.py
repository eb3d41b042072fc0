"""Training: state, loss, optimizer, step, loop and checkpoints."""
