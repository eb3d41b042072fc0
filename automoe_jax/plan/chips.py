"""Published figures of chips: the table behind a plan's times and memory limits.

Figures are peaks of one chip, in decimal units; no program reaches all of them. Links are counted
in one direction, half of a vendor's bidirectional figure.
"""

import dataclasses

from automoe_jax.errors import UserError

_TPU_DOCS = "Google Cloud documentation, cloud.google.com/tpu/docs/"
_NVIDIA_DOCS = "NVIDIA data sheets, nvidia.com/en-us/data-center/"


@dataclasses.dataclass(frozen=True)
class Chip:
    """One accelerator."""

    title: str
    flops: float  # bfloat16 FLOP/s of dense products
    memory: float  # bytes of HBM
    bandwidth: float  # bytes/s of the HBM
    link: float  # bytes/s sent to chips of its domain, over all its links
    domain: int  # number of chips that these links connect
    network: float  # bytes/s sent to other chips, its share of the host's network cards
    topology: str  # libtpu's name of the chip; empty: none, devices are simulated
    dimensions: int  # dimensions of the torus of links; 0: a switch
    source: str


CHIPS = {
    # 400 GB/s of ICI in both directions; 6.4 Tb/s of network for a pod.
    "v5e": Chip("TPU v5e", 197e12, 16e9, 819e9, 200e9, 256, 3.125e9, "v5e", 2, f"{_TPU_DOCS}v5e"),
    # 1200 GB/s of ICI in both directions; the largest job is 6144 chips; 50 Gb/s of network for a
    # chip.
    "v5p": Chip("TPU v5p", 459e12, 95e9, 2765e9, 600e9, 6144, 6.25e9, "v5p", 3, f"{_TPU_DOCS}v5p"),
    # 800 GB/s of ICI in both directions; 25.6 Tb/s of network for a pod.
    "v6e": Chip("TPU v6e", 918e12, 32e9, 1638e9, 400e9, 256, 12.5e9, "v6e", 2, f"{_TPU_DOCS}v6e"),
    # Half of the 1979 TFLOP/s with sparsity; 900 GB/s of NVLink in both directions among the 8 of a
    # node; beyond it, one
    # network card of 400 Gb/s for each, as in a DGX.
    "h100": Chip(
        "NVIDIA H100 SXM",
        989e12,
        80e9,
        3350e9,
        450e9,
        8,
        50e9,
        "",
        0,
        f"{_NVIDIA_DOCS}h100 and dgx-h100",
    ),
    "h200": Chip(
        "NVIDIA H200 SXM",
        989e12,
        141e9,
        4800e9,
        450e9,
        8,
        50e9,
        "",
        0,
        f"{_NVIDIA_DOCS}h200 and dgx-h200",
    ),
}


def chip(name: str) -> Chip:
    """The chip of this name, in either case; raises `UserError` for one that is not in the
    table.
    """
    if name.lower() not in CHIPS:
        raise UserError(
            f"--chip={name} is not in the table of automoe_jax/plan/chips.py; choose one of"
            f" {', '.join(CHIPS)}"
        )
    return CHIPS[name.lower()]


def slice_shape(chip: Chip, devices: int) -> tuple[int, ...] | None:
    """Chips along each dimension of the squarest slice with exactly this number; None if there is
    none.

    One chip, or boards of 2 × 2, as slices are made of.
    """
    if not chip.topology or devices > chip.domain:
        return None
    if devices == 1:
        return (1,) * chip.dimensions
    # A single board is 2 × 2 × 1, a larger slice 2 × 2 × 4.
    shapes = [
        shape
        for one in _factors(devices, chip.dimensions)
        for shape in (one, one[::-1])
        if shape[0] % 2 == shape[1] % 2 == 0
    ]
    return min(shapes, key=lambda shape: max(shape) / min(shape), default=None)


def _factors(product: int, count: int) -> list[tuple[int, ...]]:
    """Every way to write `product` as this number of increasing factors."""
    if count == 1:
        return [(product,)]
    factors = []
    for last in range(1, product + 1):
        if product % last == 0:
            factors += [
                (*first, last)
                for first in _factors(product // last, count - 1)
                if first[-1] <= last
            ]
    return factors
