"""Evaluation on the test text: outputs of each network, their scores and its costs."""
