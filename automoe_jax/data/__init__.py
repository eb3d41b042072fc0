"""Parallel text: where it comes from (`corpus`), its pieces (`tokenizer`) and its batches
(`batching`).
"""
