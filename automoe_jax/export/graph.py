"""Builder of ONNX graphs: operators by name, constants, conditionals and loops.

A `Graph` appends nodes; an operator's result is the name of a value, which later operators take as
input. Conditionals and loops have bodies: separate graphs that also see the values of the enclosing
graphs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 21
IR_VERSION = 10  # the newest that ONNX Runtime 1.20 reads
PRODUCER = "automoe_jax"

# Constants up to this size are stored once for each value; a comparison of weights would be wasted.
_SMALL_BYTES = 4096


class Graph:
    """A graph, or the body of a conditional or a loop, under construction."""

    def __init__(self, name: str = "main", outer: "Graph | None" = None):
        self.name = name
        self._outer = outer
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._small: dict[tuple, str] = {}
        # of this graph alone, by identity; the array is held so that its identity is not reused
        self._large: dict[int, tuple[str, Any]] = {}
        self._own: set[str] = set()  # values that can be outputs of a body: its nodes' results
        self._names: list[int] = outer._names if outer else [0]

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The name of the only output of a new node."""
        return self.ops(kind, *inputs, outputs=1, domain=domain, **attributes)[0]

    def ops(
        self, kind: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any
    ) -> tuple[str, ...]:
        """The names of the outputs of a new node."""
        names = tuple(self._fresh(kind) for _ in range(outputs))
        self._nodes.append(
            helper.make_node(kind, inputs, names, name=names[0], domain=domain, **attributes)
        )
        self._own.update(names)
        return names

    @property
    def root(self) -> "Graph":
        """The outermost graph."""
        return self if self._outer is None else self._outer.root

    def shared(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """`op`, with one node for equal calls."""
        key = (kind, inputs, tuple(sorted(attributes.items())))
        if key not in self._small:
            self._small[key] = self.op(kind, *inputs, **attributes)
        return self._small[key]

    def constant(self, value: Any, dtype: Any = None) -> str:
        """The name of an array that is stored in the model."""
        array = np.ascontiguousarray(np.asarray(value, dtype)).reshape(np.shape(value))
        if array.nbytes > _SMALL_BYTES:
            if id(value) not in self._large:
                self._large[id(value)] = (self._stored(array), value)
            return self._large[id(value)][0]
        key = (array.dtype.str, array.shape, array.tobytes())
        name = self._known(key)
        if name is None:
            name = self._small[key] = self._stored(array)
        return name

    def ints(self, *values: int) -> str:
        """A vector of 64-bit integers, as shapes and axes are given."""
        return self.constant(values, np.int64)

    def integer(self, value: int) -> str:
        """A 64-bit integer."""
        return self.constant(value, np.int64)

    def number(self, value: float) -> str:
        """A 32-bit float."""
        return self.constant(value, np.float32)

    def input(self, name: str, dtype: Any, shape: Sequence[str | int]) -> str:
        """The name of a new input of the graph."""
        self._inputs.append(_value(name, dtype, shape))
        return name

    def output(self, value: str, name: str, dtype: Any, shape: Sequence[str | int] | None) -> None:
        """Makes a value an output of the graph, under `name`."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=name))
        self._outputs.append(_value(name, dtype, shape))

    def branches(
        self,
        condition: str,
        then: Callable[["Graph"], Sequence[str]],
        otherwise: Callable[["Graph"], Sequence[str]],
        dtypes: Sequence[Any],
    ) -> tuple[str, ...]:
        """The results of one of two bodies, of which only that one is computed."""
        bodies = []
        for label, build in (("then", then), ("else", otherwise)):
            body = Graph(self._fresh(label), self)
            for result, dtype in zip(build(body), dtypes, strict=True):
                body._outputs.append(_value(body._named(result), dtype, None))
            bodies.append(body._proto())
        return self.ops(
            "If", condition, outputs=len(dtypes), then_branch=bodies[0], else_branch=bodies[1]
        )

    def branch(
        self, condition: str, then: Callable[["Graph"], str], otherwise: Callable[["Graph"], str]
    ) -> str:
        """`branches` with one float32 result."""
        (output,) = self.branches(
            condition, lambda g: (then(g),), lambda g: (otherwise(g),), (np.float32,)
        )
        return output

    def loop(
        self,
        most: str,
        going: str,
        states: Sequence[tuple[str, Any]],
        build: Callable[["Graph", str, list[str]], tuple[str, list[str], list[tuple[str, Any]]]],
    ) -> tuple[list[str], list[str]]:
        """The last states, and the records of every iteration, stacked along a new first axis.

        states: the first values and their dtypes. build(body, turn, states) adds the body of the
        loop and returns whether to continue, the next states, and the records with their dtypes.
        """
        body = Graph(self._fresh("body"), self)
        turn = body.input(self._fresh("turn"), np.int64, ())
        body.input(self._fresh("going"), np.bool_, ())
        names = [self._fresh("state") for _ in states]
        for name, (_, dtype) in zip(names, states, strict=True):
            body._inputs.append(_value(name, dtype, None))
        continues, following, records = build(body, turn, names)
        results = [(continues, np.bool_)]
        results += [
            (value, dtype) for value, (_, dtype) in zip(following, states, strict=True)
        ] + records
        for value, dtype in results:
            body._outputs.append(_value(body._named(value), dtype, None))
        outputs = self.ops(
            "Loop",
            most,
            going,
            *(value for value, _ in states),
            outputs=len(states) + len(records),
            body=body._proto(),
        )
        return list(outputs[: len(states)]), list(outputs[len(states) :])

    def model(self) -> onnx.ModelProto:
        """The finished model."""
        domains = [helper.make_opsetid("", OPSET)]
        return helper.make_model(
            self._proto(), opset_imports=domains, ir_version=IR_VERSION, producer_name=PRODUCER
        )

    def _proto(self) -> onnx.GraphProto:
        return helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, self._initializers
        )

    def _named(self, value: str) -> str:
        """A result of this graph that is not yet an output of it."""
        if value not in self._own:
            return self.op("Identity", value)
        self._own.remove(value)
        return value

    def _stored(self, array: np.ndarray) -> str:
        name = self._fresh("constant")
        self._initializers.append(numpy_helper.from_array(array, name))
        return name

    def _known(self, key: tuple) -> str | None:
        graph: Graph | None = self
        while graph is not None:
            if key in graph._small:
                return graph._small[key]
            graph = graph._outer
        return None

    def _fresh(self, kind: str) -> str:
        self._names[0] += 1
        return f"{kind}_{self._names[0]}"


def _value(name: str, dtype: Any, shape: Sequence[str | int] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
    )
