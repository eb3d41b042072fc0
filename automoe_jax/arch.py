"""An architecture is data: one fixed-size record of integers per sub-Transformer, and its JSON.

`Arch` holds NumPy arrays padded to package-wide maxima, so every architecture of every search space
has the same shapes: as a `NamedTuple` it is a pytree without registration and goes into `jax.jit`
as an argument. This module imports no JAX. Absent layers and experts are `ABSENT`; an identity
expert has width 0 (AutoMoE, table 2; docs/systems/automoe.md). A layer may skip its self-attention
or its cross attention, which then has 0 heads, and its FFN, which then has no experts (PLANER;
docs/systems/planer.md). An architecture without decoder layers is an encoder for classification.

Axes: L layers (MAX_LAYERS) · E experts (MAX_EXPERTS).
"""

import json
import os
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from automoe_jax.errors import UserError

MAX_LAYERS = 12
MAX_EXPERTS = 32
MAX_SIZE = 2**31 - 1  # of any number in an architecture: its fields are int32
ABSENT = -1
SIDES = ENCODER, DECODER = ("encoder", "decoder")


class Arch(NamedTuple):
    """One sub-Transformer, all fields int32. Build it with `make`, `from_dict` or `from_json`,
    which canonicalise.

    Under `jax.jit` the fields are tracers; equality, hashing, JSON and the Python-number properties
    then have no meaning and raise JAX's own concretisation error.
    """

    qkv_dim: np.ndarray  # []
    encoder_embed_dim: np.ndarray  # []
    decoder_embed_dim: np.ndarray  # []
    encoder_self_heads: np.ndarray  # [L]
    encoder_ffn_dims: np.ndarray  # [L, E]
    encoder_top_k: np.ndarray  # [L]
    decoder_self_heads: np.ndarray  # [L]
    decoder_cross_heads: np.ndarray  # [L]
    # [L] number of the last encoder layers that a decoder layer attends to, 0 without attention
    cross_layers: np.ndarray
    decoder_ffn_dims: np.ndarray  # [L, E]
    decoder_top_k: np.ndarray  # [L]

    @property
    def encoder_layers(self) -> int:
        return int(np.sum(np.asarray(self.encoder_self_heads) != ABSENT))

    @property
    def decoder_layers(self) -> int:
        return int(np.sum(np.asarray(self.decoder_self_heads) != ABSENT))

    @property
    def encoder_experts(self) -> tuple[tuple[int, ...], ...]:
        """Expert widths of each encoder layer that exists, () where it skips its FFN."""
        return _widths(self.encoder_ffn_dims, self.encoder_layers)

    @property
    def decoder_experts(self) -> tuple[tuple[int, ...], ...]:
        """Expert widths of each decoder layer that exists, () where it skips its FFN."""
        return _widths(self.decoder_ffn_dims, self.decoder_layers)

    @property
    def routed(self) -> bool:
        """Whether some layer has more than one expert; then every layer with an FFN has a router
        (docs/costs.md).
        """
        return any(len(widths) > 1 for widths in self.encoder_experts + self.decoder_experts)

    @property
    def is_blind(self) -> bool:
        """Whether there is a decoder that sees nothing of the source: all layers skip the cross
        attention.
        """
        return self.decoder_layers > 0 and not np.any(np.asarray(self.decoder_cross_heads) > 0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Arch) and self._bytes() == other._bytes()

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._bytes())

    def _bytes(self) -> bytes:
        return b"".join(np.asarray(field).astype(np.int32).tobytes() for field in self)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain Python, the format of `from_dict`."""
        encoder = [
            {
                "self_heads": int(self.encoder_self_heads[i]),
                "expert_ffn_dims": list(widths),
                "top_k": int(self.encoder_top_k[i]),
            }
            for i, widths in enumerate(self.encoder_experts)
        ]
        decoder = [
            {
                "self_heads": int(self.decoder_self_heads[i]),
                "cross_heads": int(self.decoder_cross_heads[i]),
                "cross_layers": int(self.cross_layers[i]),
                "expert_ffn_dims": list(widths),
                "top_k": int(self.decoder_top_k[i]),
            }
            for i, widths in enumerate(self.decoder_experts)
        ]
        return {
            "qkv_dim": int(self.qkv_dim),
            "encoder": {"embed_dim": int(self.encoder_embed_dim), "layers": encoder},
            "decoder": {"embed_dim": int(self.decoder_embed_dim), "layers": decoder},
        }

    def to_json(self, indent: int | None = None) -> str:
        """JSON of the architecture; equal architectures give equal text."""
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_json(cls, text: str) -> "Arch":
        """Parses `to_json`'s format; raises `UserError` naming the first wrong field."""
        if isinstance(text, os.PathLike):
            raise UserError(
                f"an architecture is parsed from JSON text, not from a path; pass the text of the"
                f" file, {os.fspath(text)!r}"
            )
        if not isinstance(text, str | bytes | bytearray):
            raise UserError(
                f"an architecture is parsed from JSON text, not from {_shown(text)}; a nested"
                " dictionary goes into Arch.from_dict"
            )
        try:
            value = json.loads(text)
        except RecursionError:
            raise UserError(
                "the architecture is not valid JSON: its brackets are nested too deeply"
            ) from None
        except ValueError as error:  # as well for bytes that are not text and endless numbers
            hint = "; pass the file's text, not its name" if _names_a_file(text) else ""
            raise UserError(f"the architecture is not valid JSON: {error}{hint}") from None
        return cls.from_dict(value)

    @classmethod
    def from_dict(cls, value: Any) -> "Arch":
        """The canonical architecture of nested plain Python; raises `UserError` naming the first
        wrong field.
        """
        top = _fields(value, "", {"qkv_dim", "encoder", "decoder"})
        encoder = _fields(top["encoder"], "encoder", {"embed_dim", "layers"})
        decoder = _fields(top["decoder"], "decoder", {"embed_dim", "layers"})
        arch = make(
            qkv_dim=_integer(top["qkv_dim"], "qkv_dim"),
            encoder_embed_dim=_integer(encoder["embed_dim"], "encoder.embed_dim"),
            decoder_embed_dim=_integer(decoder["embed_dim"], "decoder.embed_dim"),
            encoder=_layers(encoder["layers"], "encoder", ("self_heads", "top_k")),
            decoder=_layers(
                decoder["layers"], "decoder", ("self_heads", "cross_heads", "cross_layers", "top_k")
            ),
        )
        _check(arch, decoder["layers"])
        return arch


def check_shapes(arch: Any) -> None:
    """Raises `UserError` unless `arch` is an `Arch` of integers in the shapes of this package.

    No more can be checked under `jax.jit`, where the numbers are unknown.
    """
    if not isinstance(arch, Arch):
        raise UserError(
            f"an architecture must be an automoe_jax.arch.Arch, got {_shown(arch)}; Arch.from_dict"
            " and Arch.from_json make one"
        )
    for name, field in zip(Arch._fields, arch, strict=True):
        depth = () if name == "qkv_dim" or name.endswith("embed_dim") else (MAX_LAYERS,)
        wanted = (*depth, MAX_EXPERTS) if name.endswith("ffn_dims") else depth
        shape = getattr(field, "shape", None)
        if shape != wanted or not np.issubdtype(field.dtype, np.integer):
            actual = "no array" if shape is None else f"{field.dtype} of the shape {shape}"
            raise UserError(
                f"the field {name} of an architecture must hold integers of the shape {wanted}, got"
                f" {actual}; fields of several architectures are stacked only for jax.vmap and"
                " training steps"
            )


def make(
    *,
    qkv_dim: int,
    encoder_embed_dim: int,
    decoder_embed_dim: int,
    encoder: Sequence[Mapping[str, Any]],
    decoder: Sequence[Mapping[str, Any]],
) -> Arch:
    """The canonical `Arch` of layers given as mappings in the JSON's names.

    Canonical: `top_k` is at most the number of experts and `cross_layers` at most the number of
    encoder layers, and 0 without cross attention, since more of either computes the same thing.
    """
    return Arch(
        qkv_dim=np.asarray(qkv_dim, np.int32),
        encoder_embed_dim=np.asarray(encoder_embed_dim, np.int32),
        decoder_embed_dim=np.asarray(decoder_embed_dim, np.int32),
        encoder_self_heads=_padded([layer["self_heads"] for layer in encoder]),
        encoder_ffn_dims=_padded_widths(encoder),
        encoder_top_k=_padded([_top_k(layer) for layer in encoder]),
        decoder_self_heads=_padded([layer["self_heads"] for layer in decoder]),
        decoder_cross_heads=_padded([layer["cross_heads"] for layer in decoder]),
        cross_layers=_padded(
            [
                min(layer["cross_layers"], len(encoder)) if layer["cross_heads"] else 0
                for layer in decoder
            ]
        ),
        decoder_ffn_dims=_padded_widths(decoder),
        decoder_top_k=_padded([_top_k(layer) for layer in decoder]),
    )


def _top_k(layer: Mapping[str, Any]) -> int:
    """Experts per token, of those that there are; 0 without an FFN."""
    experts = len(layer["expert_ffn_dims"])
    return min(layer["top_k"], experts) if experts else 0


def _padded(values: Sequence[int]) -> np.ndarray:
    out = np.full(MAX_LAYERS, ABSENT, np.int32)
    out[: len(values)] = values
    return out


def _padded_widths(layers: Sequence[Mapping[str, Any]]) -> np.ndarray:
    out = np.full((MAX_LAYERS, MAX_EXPERTS), ABSENT, np.int32)
    for row, layer in zip(out, layers, strict=False):
        row[: len(layer["expert_ffn_dims"])] = layer["expert_ffn_dims"]
    return out


def _widths(table: np.ndarray, layers: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(f) for f in row if f != ABSENT) for row in np.asarray(table)[:layers])


def _fields(value: Any, where: str, names: set[str]) -> Mapping[str, Any]:
    at = where or "the architecture"
    if not isinstance(value, Mapping):
        raise UserError(
            f"{at} must be a JSON object with the fields {sorted(names)}, got {_shown(value)}"
        )
    for name in sorted(names - set(value)):
        raise UserError(f"{at} lacks the field {name!r}; it needs {sorted(names)}")
    for name in sorted(set(value) - names, key=str):
        raise UserError(f"{at} has an unknown field {name!r}; the fields are {sorted(names)}")
    return value


def _integer(value: Any, where: str, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{where}={_shown(value)} must be a whole number of at least {least}")
    if value > MAX_SIZE:
        raise UserError(f"{where}={_shown(value)} must not exceed {MAX_SIZE}")
    return value


def _names_a_file(text: str | bytes | bytearray) -> bool:
    name = os.fsdecode(bytes(text) if isinstance(text, bytearray) else text)
    return len(name.split()) == 1 and (name.endswith(".json") or "/" in name)


def _shown(value: Any) -> str:
    """`repr` of any value, shortened: it may be deep, long or huge."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python does not print integers of thousands of digits
        return "a huge number"


def _layers(value: Any, side: str, integers: tuple[str, ...]) -> list[Mapping[str, Any]]:
    least = 1 if side == "encoder" else 0
    if not isinstance(value, list) or not least <= len(value) <= MAX_LAYERS:
        actual = f"{len(value)} layers" if isinstance(value, list) else _shown(value)
        raise UserError(
            f"{side}.layers must be a list of {least} to {MAX_LAYERS} layers, got {actual}"
        )
    for i, layer in enumerate(value):
        where = f"{side}.layers[{i}]"
        _fields(layer, where, {"expert_ffn_dims", *integers})
        widths = layer["expert_ffn_dims"]
        if not isinstance(widths, list) or len(widths) > MAX_EXPERTS:
            raise UserError(
                f"{where}.expert_ffn_dims={_shown(widths)} must be a list of at most {MAX_EXPERTS}"
                " expert widths; without any, the layer skips its FFN"
            )
        for name in integers:
            _integer(layer[name], f"{where}.{name}", least=_least(name, layer))
        for e, width in enumerate(widths):
            # A width of 0 is the identity expert, which may only be first.
            _integer(width, f"{where}.expert_ffn_dims[{e}]", least=0 if e == 0 else 1)
    return value


def _least(name: str, layer: Mapping[str, Any]) -> int:
    """The smallest value of a layer's number: 0 where the layer may skip, or skips, a block."""
    if name == "cross_layers":
        return 0 if layer["cross_heads"] == 0 else 1
    if name == "top_k":
        return 1 if layer["expert_ffn_dims"] else 0
    return 0  # heads


def _check(arch: Arch, decoder_layers: Sequence[Mapping[str, Any]]) -> None:
    """Checks rules between fields: heads divide Q, cross attention sees only existing layers, and
    the decoder something of the source.
    """
    if arch.is_blind:
        raise UserError(
            "decoder.layers must have cross_heads of at least 1 in some layer, or the decoder sees"
            " nothing of the source"
        )
    for name in ("encoder_self_heads", "decoder_self_heads", "decoder_cross_heads"):
        side, _, field = name.partition("_")
        for i, heads in enumerate(getattr(arch, name)):
            if heads > 0 and arch.qkv_dim % heads:
                raise UserError(
                    f"{side}.layers[{i}].{field}={heads} must divide qkv_dim={arch.qkv_dim}"
                )
    for i, layer in enumerate(decoder_layers):
        if layer["cross_layers"] > arch.encoder_layers:
            raise UserError(
                f"decoder.layers[{i}].cross_layers={layer['cross_layers']} exceeds the"
                f" {arch.encoder_layers} encoder layers"
            )
