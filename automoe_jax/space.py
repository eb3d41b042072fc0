"""Search space: the choices of every gene (AutoMoE, table 2), and how architectures are sampled,
mutated and crossed.

An architecture is written as a genotype: one vector with an entry for every gene of the deepest
sub-Transformer with the most experts. Depth and expert counts are genes too, and decide which of
the others are expressed. Sampling, mutation and crossover work on genotypes; expressing a genotype
gives the canonical `Arch`. This module imports no JAX.

Axes: G genes · L layers (the most of the side) · E experts (the most of the side).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from automoe_jax import arch as arch_lib
from automoe_jax.arch import ABSENT, MAX_EXPERTS, MAX_LAYERS, MAX_SIZE, Arch
from automoe_jax.errors import UserError

# the fields in which 0 lets a layer skip a block
_SKIPPED = (
    "encoder_self_heads",
    "decoder_self_heads",
    "decoder_cross_heads",
    "encoder_experts",
    "decoder_experts",
)


class _GenotypeLayout(NamedTuple):
    """Position of each kind of gene in a genotype, and its choices."""

    places: dict[str, tuple[int, int, tuple[int, ...]]]  # first, past the last, shape
    choices: np.ndarray  # [G, most choices of any gene], rows padded with their largest
    counts: np.ndarray  # [G] choices of each gene


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Choices of every gene; each field of choices is a set, kept as a sorted tuple.

    A 0 among the heads lets a layer skip that attention, a 0 among the numbers of experts its FFN
    (PLANER; docs/systems/planer.md); some decoder layer always has cross attention. A 0 among
    `expert_ffn_dims` is the identity expert. Only a layer's first expert may be one; it may be the
    layer's only expert. A `top_k` beyond a layer's experts and a `cross_layers` beyond
    the encoder's depth mean all of them. In each group of `expert_layers_every` layers of a side,
    only the first has a choice of experts; the others have one (THOR; docs/systems/thor.md).
    `decoder_layers = (0,)` means encoders without a decoder, for classification. Raises `UserError`
    for choices that no Transformer can be built from.
    """

    qkv_dim: int = 512
    encoder_embed_dims: tuple[int, ...] = (512, 640)
    decoder_embed_dims: tuple[int, ...] = (512, 640)
    encoder_layers: tuple[int, ...] = (6,)
    decoder_layers: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    encoder_self_heads: tuple[int, ...] = (4, 8)
    decoder_self_heads: tuple[int, ...] = (4, 8)
    decoder_cross_heads: tuple[int, ...] = (4, 8)
    cross_layers: tuple[int, ...] = (1, 2, 3)
    encoder_experts: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    decoder_experts: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    expert_ffn_dims: tuple[int, ...] = (1024, 2048, 3072)
    top_k: tuple[int, ...] = (1,)
    expert_layers_every: int = 1

    def __post_init__(self) -> None:
        if not _is_integer(self.qkv_dim) or self.qkv_dim < 1:
            raise UserError(f"space.qkv_dim={self.qkv_dim!r} must be a positive whole number")
        if self.qkv_dim > MAX_SIZE:
            raise UserError(f"space.qkv_dim={self.qkv_dim!r} must not exceed {MAX_SIZE}")
        object.__setattr__(self, "qkv_dim", int(self.qkv_dim))
        if not _is_integer(self.expert_layers_every) or self.expert_layers_every < 1:
            raise UserError(
                f"space.expert_layers_every={self.expert_layers_every!r} must be a positive whole"
                " number"
            )
        for field in dataclasses.fields(self)[1:-1]:
            may_be_0 = ("expert_ffn_dims", "decoder_layers", *_SKIPPED)
            least = 0 if field.name in may_be_0 else 1
            object.__setattr__(
                self, field.name, _choices(field.name, getattr(self, field.name), least)
            )
        self._check_heads()
        self._check_maxima()

    @property
    def super_encoder_embed_dim(self) -> int:
        return self.encoder_embed_dims[-1]

    @property
    def super_decoder_embed_dim(self) -> int:
        return self.decoder_embed_dims[-1]

    @property
    def super_ffn_dim(self) -> int:
        return self.expert_ffn_dims[-1]

    @property
    def max_encoder_layers(self) -> int:
        return self.encoder_layers[-1]

    @property
    def max_decoder_layers(self) -> int:
        return self.decoder_layers[-1]

    @property
    def max_encoder_experts(self) -> int:
        return self.encoder_experts[-1]

    @property
    def max_decoder_experts(self) -> int:
        return self.decoder_experts[-1]

    @property
    def is_routed(self) -> bool:
        """Whether some architecture has more than one expert in a layer, so that the SuperNet needs
        routers.
        """
        return (
            max(
                self.max_encoder_experts, self.max_decoder_experts if self.max_decoder_layers else 1
            )
            > 1
        )

    def size(self) -> int:
        """The exact number of different (canonical) architectures."""
        widths = len(self.encoder_embed_dims) * len(self.decoder_embed_dims)
        total = 0
        for depth in self.encoder_layers:
            encoders = math.prod(
                len(self.encoder_self_heads) * self._ffn_count("encoder", i) for i in range(depth)
            )
            seen_layers = len(_clipped(self.cross_layers, depth))
            skips = 0 in self.decoder_cross_heads
            cross = (len(self.decoder_cross_heads) - skips) * seen_layers + skips
            for layers in self.decoder_layers:
                rest = math.prod(
                    len(self.decoder_self_heads) * self._ffn_count("decoder", i)
                    for i in range(layers)
                )
                blind = 1 if skips and layers else 0
                total += encoders * rest * (cross**layers - blind)
        return widths * total

    def expert_counts(self, side: str, layer: int) -> tuple[int, ...]:
        """Numbers of experts that a layer may have; 0: it skips its FFN."""
        return getattr(self, f"{side}_experts") if layer % self.expert_layers_every == 0 else (1,)

    def largest(self) -> Arch:
        """Every gene at its largest: the sub-Transformer that uses all of the SuperNet."""
        return self._express(self._layout.choices[:, -1])

    def smallest(self) -> Arch:
        """Every gene at its smallest, but for the cross attention of one layer if all could skip
        it; hence the fewest FLOPs, parameters and active parameters of the space.
        """
        genes = self._layout.choices[:, 0].copy()
        first = self._layout.places["decoder_cross_heads"][0]
        if self.max_decoder_layers and not genes[first]:
            genes[first] = self.decoder_cross_heads[1]
        return self._express(genes)

    def largest_dense(self) -> Arch:
        """The dense Transformer to compare with: largest widths, depths, FFN and heads, one expert
        per layer.

        Cross attention sees the fewest encoder layers there are to choose from. Where every choice
        of `encoder_experts` or `decoder_experts` exceeds 1, this architecture is outside the space.
        """
        return dataclasses.replace(self.dense(), cross_layers=self.cross_layers[:1]).largest()

    def dense(self) -> "SearchSpace":
        """The space with one expert in every layer: HAT's (arXiv 2005.14187)."""
        return dataclasses.replace(self, encoder_experts=(1,), decoder_experts=(1,))

    def contains(self, arch: Arch) -> bool:
        """Whether `arch` is the canonical form of some combination of choices."""
        record = arch.to_dict()
        encoder, decoder = record["encoder"], record["decoder"]
        depth = len(encoder["layers"])
        return (
            record["qkv_dim"] == self.qkv_dim
            and encoder["embed_dim"] in self.encoder_embed_dims
            and decoder["embed_dim"] in self.decoder_embed_dims
            and depth in self.encoder_layers
            and len(decoder["layers"]) in self.decoder_layers
            and all(layer["self_heads"] in self.encoder_self_heads for layer in encoder["layers"])
            and all(
                self._contains_ffn(layer, self.expert_counts("encoder", i))
                for i, layer in enumerate(encoder["layers"])
            )
            and all(layer["self_heads"] in self.decoder_self_heads for layer in decoder["layers"])
            and all(layer["cross_heads"] in self.decoder_cross_heads for layer in decoder["layers"])
            and all(
                layer["cross_layers"] in _clipped(self.cross_layers, depth)
                or not layer["cross_heads"]
                for layer in decoder["layers"]
            )
            and not arch.is_blind
            and all(
                self._contains_ffn(layer, self.expert_counts("decoder", i))
                for i, layer in enumerate(decoder["layers"])
            )
        )

    def sample(self, rng: np.random.Generator) -> Arch:
        """An architecture with every gene drawn uniformly from its choices (before what is absent
        is left out), repeated while the decoder sees nothing of the source.
        """
        return self._seeing(lambda: self._draw(rng))

    def fair(self, rng: np.random.Generator, count: int) -> list[Arch]:
        """`count` architectures among which every gene takes its choices equally often, or once
        more or less where their number does not divide `count` (before what is absent is left out;
        a decoder that sees nothing of the source is drawn again). FairNAS (arXiv 1907.01845).
        """
        genes = self._layout.counts.size
        places = rng.permuted(np.tile(np.arange(count), (genes, 1)), axis=1)
        shift = rng.integers(self._layout.counts)
        chosen = (places + shift[:, None]) % self._layout.counts[:, None]
        genotypes = np.take_along_axis(self._layout.choices, chosen, axis=1).T
        return [
            self._seeing(functools.partial(next, self._or_draws(one, rng))) for one in genotypes
        ]

    def _or_draws(self, genotype: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """`genotype`, then draws."""
        yield genotype
        while True:
            yield self._draw(rng)

    def mutate(self, arch: Arch, rng: np.random.Generator, prob: float) -> Arch:
        """`arch` with each gene resampled with probability `prob`; genes of newly added layers and
        experts are always resampled.

        Raises `UserError` when `arch` is not of this space.
        """
        self._require(arch)
        genes = self._genes(arch)

        def mutated() -> np.ndarray:
            drawn = self._draw(rng)
            redraw = rng.random(genes.size) < prob
            return np.where(redraw | (genes == ABSENT), drawn, genes)

        return self._seeing(mutated)

    def crossover(self, a: Arch, b: Arch, rng: np.random.Generator) -> Arch:
        """Each gene from `a` or `b` with equal probability; a gene that only one of them has comes
        from that one.

        Raises `UserError` when a parent is not of this space.
        """
        self._require(a)
        self._require(b)
        genes_a, genes_b = self._genes(a), self._genes(b)

        def crossed() -> np.ndarray:
            from_a = rng.random(genes_a.size) < 0.5
            # Genes that neither parent has remain absent; no child expresses them.
            return np.where((from_a & (genes_a != ABSENT)) | (genes_b == ABSENT), genes_a, genes_b)

        return self._seeing(crossed)

    def _seeing(self, genotype: Callable[[], np.ndarray]) -> Arch:
        """The first architecture of repeated random genotypes whose decoder sees the source."""
        while True:
            arch = self._express(genotype())
            if not arch.is_blind:
                return arch

    def _check_heads(self) -> None:
        for name in ("encoder_self_heads", "decoder_self_heads", "decoder_cross_heads"):
            heads = getattr(self, name)
            for count in filter(None, heads):
                if self.qkv_dim % count:
                    raise UserError(
                        f"space.{name}={heads}: {count} heads must divide"
                        f" space.qkv_dim={self.qkv_dim}; change either"
                    )
                if heads[-1] % count:
                    raise UserError(
                        f"space.{name}={heads}: {count} heads must divide the largest choice,"
                        f" {heads[-1]}; leave one of them out"
                    )

    def _check_maxima(self) -> None:
        maxima = {
            "encoder_layers": MAX_LAYERS,
            "decoder_layers": MAX_LAYERS,
            "encoder_experts": MAX_EXPERTS,
            "decoder_experts": MAX_EXPERTS,
        }
        for name, most in maxima.items():
            if getattr(self, name)[-1] > most:
                raise UserError(
                    f"space.{name}={getattr(self, name)} must not exceed {most}; leave out the"
                    " larger choices"
                )
        if self.decoder_layers[0] == 0 and (
            self.max_decoder_layers > 0 or len(self.decoder_embed_dims) > 1
        ):
            raise UserError(
                f"space.decoder_layers={self.decoder_layers} and"
                f" space.decoder_embed_dims={self.decoder_embed_dims}: 0 means that there is no"
                " decoder, so it must be the only choice, and the width have one; leave out the"
                " others"
            )
        for name in _SKIPPED:
            if getattr(self, name)[-1] == 0:
                raise UserError(
                    f"space.{name}=(0,) must hold a positive number in addition to 0, with which a"
                    " layer skips the block; add one"
                )
        if self.super_ffn_dim == 0:
            raise UserError(
                "space.expert_ffn_dims=(0,) must hold a positive width in addition to the identity"
                " expert's 0; add one"
            )

    def _require(self, arch: Arch) -> None:
        if not self.contains(arch):
            raise UserError(
                f"the architecture {arch.to_json()} is not of this search space; choose one that"
                " space.contains() accepts"
            )

    @functools.cached_property
    def _layout(self) -> _GenotypeLayout:
        places: dict[str, tuple[int, int, tuple[int, ...]]] = {}
        rows: list[tuple[int, ...]] = []
        for name, (choices, shape) in self._gene_table().items():
            places[name] = (len(rows), len(rows) + math.prod(shape), shape)
            rows += [choices] * math.prod(shape)
        most = max(map(len, rows))
        filled = [[*choices, *choices[-1:] * (most - len(choices))] for choices in rows]
        return _GenotypeLayout(
            places, np.array(filled), np.array([len(choices) for choices in rows])
        )

    def _gene_table(self) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
        """Every gene's choices and the shape of its array."""
        encoder, decoder = self.max_encoder_layers, self.max_decoder_layers
        widths = tuple(width for width in self.expert_ffn_dims if width > 0)
        return {
            "encoder_embed_dim": (self.encoder_embed_dims, ()),
            "decoder_embed_dim": (self.decoder_embed_dims, ()),
            "encoder_layers": (self.encoder_layers, ()),
            "decoder_layers": (self.decoder_layers, ()),
            "encoder_self_heads": (self.encoder_self_heads, (encoder,)),
            "encoder_experts": (self.encoder_experts, (encoder,)),
            "encoder_first_ffn_dim": (self.expert_ffn_dims, (encoder,)),
            "encoder_other_ffn_dims": (widths, (encoder, self.max_encoder_experts - 1)),
            "encoder_top_k": (self.top_k, (encoder,)),
            "decoder_self_heads": (self.decoder_self_heads, (decoder,)),
            "decoder_cross_heads": (self.decoder_cross_heads, (decoder,)),
            "cross_layers": (self.cross_layers, (decoder,)),
            "decoder_experts": (self.decoder_experts, (decoder,)),
            "decoder_first_ffn_dim": (self.expert_ffn_dims, (decoder,)),
            "decoder_other_ffn_dims": (widths, (decoder, self.max_decoder_experts - 1)),
            "decoder_top_k": (self.top_k, (decoder,)),
        }

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        """A genotype [G] with every gene uniform over its choices."""
        return self._layout.choices[
            np.arange(self._layout.counts.size), rng.integers(self._layout.counts)
        ]

    def _genes(self, arch: Arch) -> np.ndarray:
        """A genotype [G] that expresses `arch`; the genes that `arch` lacks are `ABSENT`."""
        encoder, decoder = self.max_encoder_layers, self.max_decoder_layers
        genes = {
            "encoder_embed_dim": arch.encoder_embed_dim,
            "decoder_embed_dim": arch.decoder_embed_dim,
            "encoder_layers": np.asarray(arch.encoder_layers),
            "decoder_layers": np.asarray(arch.decoder_layers),
            "encoder_self_heads": arch.encoder_self_heads[:encoder],
            **_ffn_genes(
                "encoder",
                arch.encoder_ffn_dims[:encoder, : self.max_encoder_experts],
                arch.encoder_layers,
            ),
            "encoder_top_k": _unclipped(arch.encoder_top_k[:encoder], self.top_k),
            "decoder_self_heads": arch.decoder_self_heads[:decoder],
            "decoder_cross_heads": arch.decoder_cross_heads[:decoder],
            "cross_layers": _unclipped(arch.cross_layers[:decoder], self.cross_layers),
            **_ffn_genes(
                "decoder",
                arch.decoder_ffn_dims[:decoder, : self.max_decoder_experts],
                arch.decoder_layers,
            ),
            "decoder_top_k": _unclipped(arch.decoder_top_k[:decoder], self.top_k),
        }
        return np.concatenate([np.ravel(genes[name]) for name in self._layout.places])

    def _express(self, genotype: np.ndarray) -> Arch:
        """The architecture of a genotype [G]: genes of absent layers and experts are left out, the
        rest made canonical.
        """
        places = self._layout.places.items()
        genes = {
            name: genotype[first:last].reshape(shape).tolist()
            for name, (first, last, shape) in places
        }
        encoder = [
            {"self_heads": genes["encoder_self_heads"][i], **self._ffn_layer("encoder", genes, i)}
            for i in range(genes["encoder_layers"])
        ]
        decoder = [
            {
                name.removeprefix("decoder_"): genes[name][i]
                for name in ("decoder_self_heads", "decoder_cross_heads", "cross_layers")
            }
            | self._ffn_layer("decoder", genes, i)
            for i in range(genes["decoder_layers"])
        ]
        return arch_lib.make(
            qkv_dim=self.qkv_dim,
            encoder_embed_dim=genes["encoder_embed_dim"],
            decoder_embed_dim=genes["decoder_embed_dim"],
            encoder=encoder,
            decoder=decoder,
        )

    def _ffn_layer(self, side: str, genes: Mapping[str, Any], i: int) -> dict[str, Any]:
        count = genes[f"{side}_experts"][i] if i % self.expert_layers_every == 0 else 1
        widths = [genes[f"{side}_first_ffn_dim"][i], *genes[f"{side}_other_ffn_dims"][i]]
        return {
            "expert_ffn_dims": widths[:count],
            "top_k": genes[f"{side}_top_k"][i],
        }

    def _ffn_count(self, side: str, layer: int) -> int:
        """Number of different expert parts of a layer: expert widths in order, and experts per
        token.
        """
        experts = self.expert_counts(side, layer)
        widths = sum(width > 0 for width in self.expert_ffn_dims)
        return sum(
            len(self.expert_ffn_dims) * widths ** (count - 1) * len(_clipped(self.top_k, count))
            if count
            else 1
            for count in experts
        )

    def _contains_ffn(self, layer: Mapping[str, Any], experts: Sequence[int]) -> bool:
        widths = layer["expert_ffn_dims"]
        return (
            len(widths) in experts
            and all(width in self.expert_ffn_dims for width in widths)
            and all(width > 0 for width in widths[1:])
            and layer["top_k"] in _clipped(self.top_k, len(layer["expert_ffn_dims"]))
        )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _choices(name: str, value: Any, least: int) -> tuple[int, ...]:
    """A field's choices sorted and without repeats."""
    if not isinstance(value, tuple | list) or not value:
        raise UserError(f"space.{name}={value!r} must be a list of choices that is not empty")
    for choice in value:
        if not _is_integer(choice) or choice < least:
            raise UserError(
                f"space.{name}={value!r} must hold whole numbers of at least {least}; {choice!r}"
                " is not"
            )
        if choice > MAX_SIZE:
            raise UserError(f"space.{name}={value!r} must not exceed {MAX_SIZE}")
    return tuple(sorted({int(choice) for choice in value}))


def _clipped(choices: Sequence[int], most: int) -> set[int]:
    """The canonical values of a gene that cannot exceed `most`."""
    return {min(choice, most) for choice in choices}


def _unclipped(values: np.ndarray, choices: Sequence[int]) -> np.ndarray:
    """The smallest choice behind each canonical value; a value of an absent layer or a skipped
    block is absent.
    """
    index = np.searchsorted(choices, values)
    return np.where(values <= 0, ABSENT, np.asarray(choices)[np.minimum(index, len(choices) - 1)])


def _ffn_genes(side: str, ffn_dims: np.ndarray, layers: int) -> dict[str, np.ndarray]:
    """The genes of one side's experts. ffn_dims: [L, E], of which `layers` layers exist."""
    experts = np.sum(ffn_dims != ABSENT, axis=1)
    return {
        f"{side}_experts": np.where(np.arange(len(ffn_dims)) < layers, experts, ABSENT),
        f"{side}_first_ffn_dim": ffn_dims[:, 0],
        f"{side}_other_ffn_dims": ffn_dims[:, 1:],
    }
