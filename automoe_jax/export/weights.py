"""Weights of an ONNX model in a separate file, equal arrays once."""

import hashlib
from collections.abc import Iterator

import onnx
from onnx import TensorProto
from onnx.external_data_helper import set_external_data, uses_external_data

# smaller arrays stay in the model, where ONNX Runtime can use them as shapes
_LEAST_BYTES = 1024
_ALIGNMENT = 64


def separated(model: onnx.ModelProto, file: str) -> tuple[bytes, bytes]:
    """The model, which refers to its large constants by their place in `file`, and that file."""
    contents = bytearray()
    places: dict[tuple[str, int], int] = {}
    for tensor in _constants(model.graph):
        raw = tensor.raw_data
        if len(raw) < _LEAST_BYTES:
            continue
        key = (hashlib.sha256(raw).hexdigest(), len(raw))
        if key not in places:
            contents += bytes(-len(contents) % _ALIGNMENT)
            places[key] = len(contents)
            contents += raw
        set_external_data(tensor, file, offset=places[key], length=len(raw))
        tensor.ClearField("raw_data")
    return model.SerializeToString(), bytes(contents)


def joined(model: bytes, weights: bytes) -> bytes:
    """The model with the constants that `separated` moved to the file `weights`."""
    whole = onnx.load_model_from_string(model)
    for tensor in _constants(whole.graph):
        if not uses_external_data(tensor):
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}
        begin = int(place["offset"])
        tensor.ClearField("external_data")
        tensor.data_location = TensorProto.DEFAULT
        tensor.raw_data = weights[begin : begin + int(place["length"])]
    return whole.SerializeToString()


def _constants(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """The constants of a graph and of the bodies in it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _constants(attribute.g)
