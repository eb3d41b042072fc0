"""Colours of the report: each name has one meaning in all figures and on both backgrounds.

Neighbouring series differ in hue, in lightness and in marker, so that they are distinct for
colour-blind readers and in grey prints.
"""

from automoe_jax.report.rows import Role

# name: (on light, on dark). The light values are all different: figures are drawn with them and
# translated afterwards.
COLOURS = {
    "page": ("#f6f6f3", "#101216"),
    "paper": ("#fffffe", "#181b21"),
    "ink": ("#1c1f26", "#ebe9e4"),
    "muted": ("#5c6370", "#a3a9b5"),
    "line": ("#d4d7dd", "#383d48"),
    "grid": ("#e8eaee", "#292d36"),
    "ghost": ("#b3b9c3", "#525967"),
    "found": ("#bf3f0b", "#ff9c5f"),
    "found-soft": ("#fbe3d4", "#4b2c1a"),
    "supernet": ("#2563ab", "#79b3f2"),
    "supernet-soft": ("#dde8f5", "#22344a"),
    "dense": ("#47505f", "#c3c9d4"),
    "gold": ("#a87900", "#e0b93f"),
    "purple": ("#7b4ca8", "#c7a3ee"),
    "teal": ("#0d7f77", "#4cc9bd"),
}

RUN_COLOURS = {
    Role.SUPERNET: "supernet",
    Role.RETRAINED: "found",
    Role.RIVAL: "teal",
    Role.DENSE: "dense",
}


def light(name: str) -> str:
    """The colour's hexadecimal value on light paper."""
    return COLOURS[name][0]


def themed(svg: str) -> str:
    """`svg` with its literal colours replaced by the page's CSS variables, which follow light and
    dark.
    """
    for name, (value, _) in COLOURS.items():
        svg = svg.replace(value, f"var(--{name})")
    return svg


def variables(theme: int) -> str:
    """CSS declarations of all colours for theme 0 (light) or 1 (dark)."""
    return "".join(f"--{name}:{values[theme]};" for name, values in COLOURS.items())
