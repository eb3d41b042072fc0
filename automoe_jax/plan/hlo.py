"""Bytes that a compiled program moves in collectives and in memory traffic, parsed from XLA's text.

A loop counts with XLA's trip count, or once if XLA does not know it. Of a conditional's branches,
the one that moves most bytes counts.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


@dataclasses.dataclass(frozen=True)
class Moved:
    """One kind of collective, per device and run of the program."""

    count: float = 0  # number of runs
    payload: float = 0  # bytes of the whole arrays that are gathered, reduced or exchanged
    sent: float = 0  # bytes that a device sends, in a ring

    def __add__(self, other: "Moved") -> "Moved":
        return Moved(self.count + other.count, self.payload + other.payload, self.sent + other.sent)


class Kind(NamedTuple):
    """Key of collectives that are counted together."""

    name: str  # one of COLLECTIVES
    crosses: bool  # whether a group holds devices of different domains


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that a program, or a part of it, moves on each device."""

    collectives: Mapping[Kind, Moved] = dataclasses.field(default_factory=dict)
    memory: float = 0  # bytes that instructions read and write
    unknown_loops: int = 0  # whose body counts once

    def __add__(self, other: "Traffic") -> "Traffic":
        kinds = {**self.collectives, **other.collectives}
        added = {
            kind: self.collectives.get(kind, Moved()) + other.collectives.get(kind, Moved())
            for kind in kinds
        }
        return Traffic(added, self.memory + other.memory, self.unknown_loops + other.unknown_loops)

    def times(self, count: float) -> "Traffic":
        """The traffic of this number of runs."""
        scaled = {
            kind: Moved(*(count * value for value in dataclasses.astuple(moved)))
            for kind, moved in self.collectives.items()
        }
        return Traffic(scaled, count * self.memory, self.unknown_loops)

    @property
    def size(self) -> float:
        """Bytes by which branches are compared."""
        return self.memory + sum(moved.sent for moved in self.collectives.values())


class Instruction(NamedTuple):
    """A line of a computation."""

    name: str
    result: str  # its type
    opcode: str
    operands: tuple[str, ...]
    attributes: str


def traffic(text: str, domain: int = 1 << 30) -> Traffic:
    """Traffic of the program `text` (`compiled.as_text()`); `domain` consecutive devices form a
    domain.
    """
    entry, computations = parse(text)

    @functools.cache
    def of(name: str) -> Traffic:
        types = {instruction.name: instruction.result for instruction in computations[name]}
        return sum((_moves(instruction, types) for instruction in computations[name]), Traffic())

    def _moves(one: Instruction, types: Mapping[str, str]) -> Traffic:
        inner = called(one.attributes)
        if one.opcode == "while":
            trips = re.search(r'known_trip_count":\{"n":"(\d+)"', one.attributes)
            runs = sum((of(name) for name in inner), Traffic())
            return runs.times(int(trips[1])) if trips else runs + Traffic(unknown_loops=1)
        if one.opcode == "conditional":
            return max((of(name) for name in inner), key=lambda branch: branch.size)
        if one.opcode in ("call", "async-start"):
            return sum((of(name) for name in inner), Traffic())
        kind = one.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            moved, crosses = _collective(kind, one, types, domain)
            return Traffic({Kind(kind, crosses): moved}, _touched(one, types))
        inside = [Traffic(of(name).collectives) for name in inner if one.opcode == "fusion"]
        return sum(inside, Traffic(memory=_touched(one, types)))

    return of(entry)


_FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "iota",
    "after-all",
    "partition-id",
    "replica-id",
}
# they read no more bytes than they produce
_SLICES = {"dynamic-slice", "slice", "gather", "broadcast"}


def _touched(one: Instruction, types: Mapping[str, str]) -> float:
    """Bytes of memory that an instruction reads and writes."""
    if one.opcode in _FREE or one.opcode.endswith("-done"):
        return 0
    operands = [_bytes(types.get(name, "")) for name in one.operands]
    if one.opcode in _SLICES:
        return 2 * _bytes(one.result)
    if one.opcode == "dynamic-update-slice":
        return 2 * operands[1]
    return _bytes(one.result) + sum(operands)


def _collective(
    kind: str, one: Instruction, types: Mapping[str, str], domain: int
) -> tuple[Moved, bool]:
    """Bytes that one run of a collective moves, and whether it leaves a domain."""
    operands = sum(_bytes(types.get(name, "")) for name in one.operands)
    groups = _groups(one.attributes)
    size = groups.shape[1] if groups.size else 1
    crosses = bool(np.any(groups // domain != groups[:, :1] // domain))
    if kind == "collective-permute":
        return Moved(1, operands, operands), crosses
    whole = operands * size if kind == "all-gather" else operands
    passes = 2 if kind == "all-reduce" else 1  # a reduce-scatter, then an all-gather
    return Moved(1, whole, passes * whole * (size - 1) / size), crosses


def _groups(attributes: str) -> np.ndarray:
    """[groups, devices of each], from either notation; [0, 0] if all devices form one group."""
    if iota := re.search(
        r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes
    ):
        shape, dims = _numbers(iota[1]), _numbers(iota[2])
        order = _numbers(iota[3]) if iota[3] else list(range(len(dims)))
        return np.arange(math.prod(dims)).reshape(dims).transpose(order).reshape(shape)
    if listed := re.search(
        r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]+\})\}", attributes
    ):
        return np.array([_numbers(group) for group in re.findall(r"\{([\d,]+)\}", listed[1])])
    return np.zeros((0, 0), int)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


_BITS = {"pred": 8, "s4": 4, "u4": 4}


def _bytes(type_text: str) -> float:
    """The size of an array's or a tuple's type, such as "(bf16[8,128]{1,0}, s32[])"."""
    total = 0.0
    for name, dims in re.findall(r"\b([a-z]+\d*(?:e\dm\d\w*)?)\[([\d,]*)\]", type_text):
        bits = (
            _BITS.get(name) or int(re.sub(r"^[a-z]+(\d+).*", r"\1", name) or 8)
            if name != "token"
            else 0
        )
        total += bits / 8 * math.prod(_numbers(dims) if dims else [])
    return total


def called(attributes: str) -> list[str]:
    """The computations that an instruction runs."""
    names = re.findall(
        r"\b(?:body|condition|to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)",
        attributes,
    )
    for several in re.findall(r"\b(?:branch_computations|calls)=\{([^}]*)\}", attributes):
        names += [name.strip().lstrip("%") for name in several.split(",")]
    return names


_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^  (?:ROOT )?%?([\w.\-]+) = (.*)$")


def parse(text: str) -> tuple[str, dict[str, list[Instruction]]]:
    """The name of the first computation, and the instructions of each."""
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", []
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif match := _LINE.match(line):
            current.append(_instruction(match[1], match[2]))
    return entry, computations


def _instruction(name: str, text: str) -> Instruction:
    """From "f32[8]{0} add(%a, %b), metadata={…}"; a tuple's type is in parentheses."""
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    result, rest = text[:end], text[end:].lstrip()
    opened = rest.index("(")
    closed = _closing(rest, opened)
    operands = tuple(re.findall(r"%([\w.\-]+)", rest[opened:closed]))
    return Instruction(name, result, rest[:opened], operands, rest[closed + 1 :])


def _closing(text: str, opened: int) -> int:
    """Position of the closing parenthesis of the one at `opened`."""
    depth = 0
    for place in range(opened, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    return len(text)
