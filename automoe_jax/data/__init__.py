"""Parallel text: sources (`corpus`), word pieces (`tokenizer`) and batches (`batching`)."""
