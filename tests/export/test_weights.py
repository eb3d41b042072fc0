"""Weights in a file of their own."""

import pathlib

import numpy as np

from automoe_jax.export.graph import Graph
from automoe_jax.export.weights import separated
from automoe_jax.inference.engine.session import run, session


def test_equal_arrays_are_stored_once_and_found_again(tmp_path: pathlib.Path) -> None:
    table = np.arange(4000, dtype=np.float32).reshape(40, 100)
    g = Graph()
    x = g.input("x", np.float32, (1, 40))
    chosen = g.op("Greater", g.op("ReduceMax", x, keepdims=0), g.number(0))
    product = g.branch(
        chosen,
        lambda body: body.op("MatMul", x, body.constant(table)),
        lambda body: body.op("MatMul", x, body.constant(-table)),
    )
    g.output(g.op("Add", product, g.op("MatMul", x, g.constant(table))), "y", np.float32, (1, 100))
    model, weights = separated(g.model(), "weights.bin")
    assert len(weights) == 2 * table.nbytes
    (tmp_path / "model.onnx").write_bytes(model)
    (tmp_path / "weights.bin").write_bytes(weights)
    loaded = session(str(tmp_path / "model.onnx"), threads=1)
    for sign in (1, -1):
        feed = np.full((1, 40), sign, np.float32)
        (y,) = run(loaded, {"x": feed})
        np.testing.assert_allclose(y, (sign + 1) * table.sum(axis=0)[None] * (sign > 0))
