"""Drawing of an architecture: encoder and decoder next to each other, one card per layer, the first
at the bottom.

Drawn in the light palette with literal colours; `palette.themed` adapts it to the page. Lengths are
pixels.
"""

import dataclasses
import functools
import html
from collections.abc import Iterator, Sequence

from automoe_jax.arch import Arch
from automoe_jax.report.palette import light
from automoe_jax.space import SearchSpace

FONT = (
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial,"
    " sans-serif"
)


@dataclasses.dataclass(frozen=True)
class DrawingSizes:
    """Sizes of the drawing."""

    width: int
    column: int  # width of a card
    card: int  # height of a card
    gap: int  # between cards
    pad: int  # inside a card
    number: int  # space for the layer's number
    bar: int  # width of a bar of attention heads
    font: int
    words: bool  # write "8 heads", not just "8"

    @property
    def decoder_x(self) -> int:
        return self.width - self.column - 1

    @property
    def box(self) -> int:
        """Height of an expert's box."""
        return self.card - 2 * self.pad - self.line - 6

    @property
    def line(self) -> int:
        """Height of a card's line of attention heads."""
        return self.font + 2


WIDE = DrawingSizes(
    width=1000, column=405, card=66, gap=10, pad=9, number=22, bar=72, font=12, words=True
)
NARROW = DrawingSizes(
    width=352, column=148, card=58, gap=7, pad=6, number=14, bar=32, font=10, words=False
)


@dataclasses.dataclass(frozen=True)
class _Layer:
    heads: tuple[int, ...]  # self, and cross in the decoder
    cross_layers: int  # 0 in the encoder
    widths: tuple[int, ...]
    top_k: int


def architecture_svg(arch: Arch, space: SearchSpace, sizes: DrawingSizes) -> str:
    """The drawing as an SVG document."""
    encoder, decoder = _encoder(arch), _decoder(arch)
    rows = max(*space.encoder_layers, *space.decoder_layers, len(encoder), len(decoder))
    scale = _scale([*encoder, *decoder], sizes)
    top = 2 * sizes.font + 20
    bottom = top + rows * (sizes.card + sizes.gap)
    height = bottom + sizes.font + 16
    dims = [
        *space.encoder_embed_dims,
        *space.decoder_embed_dims,
        int(arch.encoder_embed_dim),
        int(arch.decoder_embed_dim),
    ]
    stack = functools.partial(
        _stack, rows=rows, top=top, bottom=bottom, scale=scale, widest=max(dims), sizes=sizes
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {sizes.width} {height}" role="img" '
        f'width="{sizes.width}" height="{height}" font-family="{FONT}" font-size="{sizes.font}">'
        f"<desc>{html.escape(describe(arch))}</desc>"
        + _rect(0, 0, sizes.width, height, "paper", "paper")
        + _links(decoder, len(encoder), top, rows, sizes)
        + stack("Encoder", encoder, 1, int(arch.encoder_embed_dim), max(space.encoder_layers))
        + (
            stack(
                "Decoder",
                decoder,
                sizes.decoder_x,
                int(arch.decoder_embed_dim),
                max(space.decoder_layers),
            )
            if decoder
            else ""
        )
        + "</svg>"
    )


def describe(arch: Arch) -> str:
    """Description of the architecture in words, for readers who cannot see the drawing."""
    encoder, decoder = _encoder(arch), _decoder(arch)
    sentences = [f"Attention width {arch.qkv_dim}. Encoder of width {arch.encoder_embed_dim}:"]
    sentences += [
        f"layer {i}: {_heads_text(layer.heads[0], 'heads', 'self-attention')},"
        f" {_experts_text(layer)}."
        for i, layer in enumerate(encoder, 1)
    ]
    sentences += [f"Decoder of width {arch.decoder_embed_dim}:" if decoder else "No decoder."]
    for i, layer in enumerate(decoder, 1):
        reach = (
            f"the last {layer.cross_layers} encoder layers"
            if layer.cross_layers > 1
            else "the last encoder layer"
        )
        own, cross = layer.heads
        attentions = [
            _heads_text(own, "self heads", "self-attention"),
            _heads_text(cross, f"cross heads over {reach}", "cross attention"),
        ]
        sentences += [f"layer {i}: {', '.join(attentions)}, {_experts_text(layer)}."]
    return " ".join(sentences)


def _heads_text(heads: int, unit: str, kind: str) -> str:
    return f"{heads} {unit}" if heads else f"no {kind}"


def shorthand(arch: Arch) -> str:
    """Expert widths of every layer on one line: '640: [2048 3072] [id 1024] / 512: [3072]'."""

    def side(dim: int, experts: Sequence[Sequence[int]]) -> str:
        return f"{dim}: " + " ".join(
            "[" + (" ".join(str(width) if width else "id" for width in widths) or "skip") + "]"
            for widths in experts
        )

    return (
        f"{side(int(arch.encoder_embed_dim), arch.encoder_experts)} /"
        f" {side(int(arch.decoder_embed_dim), arch.decoder_experts)}"
    )


def has_identity(arch: Arch) -> bool:
    """Whether some layer has an identity expert."""
    return any(0 in widths for widths in arch.encoder_experts + arch.decoder_experts)


def has_ghosts(arch: Arch, space: SearchSpace) -> bool:
    """Whether the space allows more layers than the architecture has."""
    return (
        max(space.encoder_layers) > arch.encoder_layers
        or max(space.decoder_layers) > arch.decoder_layers
    )


def _encoder(arch: Arch) -> list[_Layer]:
    return [
        _Layer((int(arch.encoder_self_heads[i]),), 0, widths, int(arch.encoder_top_k[i]))
        for i, widths in enumerate(arch.encoder_experts)
    ]  # fmt: skip


def _decoder(arch: Arch) -> list[_Layer]:
    return [
        _Layer(
            (int(arch.decoder_self_heads[i]), int(arch.decoder_cross_heads[i])),
            int(arch.cross_layers[i]),
            widths,
            int(arch.decoder_top_k[i]),
        )
        for i, widths in enumerate(arch.decoder_experts)
    ]


def _experts_text(layer: _Layer) -> str:
    widths = [str(width) if width else "identity" for width in layer.widths]
    if not widths:
        return "no FFN"
    if len(widths) == 1:
        return (
            "an identity instead of an FFN" if layer.widths == (0,) else f"one FFN of {widths[0]}"
        )
    return f"{len(widths)} experts of {', '.join(widths)}, {layer.top_k} per token"


def _card_y(i: int, top: int, rows: int, sizes: DrawingSizes) -> int:
    return top + (rows - 1 - i) * (sizes.card + sizes.gap)


def _identity_width(sizes: DrawingSizes) -> int:
    return 2 * sizes.font


def _room(sizes: DrawingSizes) -> int:
    """Width inside a card for its experts."""
    return sizes.column - 2 * sizes.pad - sizes.number


def _gap(layer: _Layer) -> int:
    return 3 if len(layer.widths) <= 8 else 2 if len(layer.widths) <= 16 else 1


def _scale(layers: Sequence[_Layer], sizes: DrawingSizes) -> float:
    """Pixels per hidden unit, the same for every layer, so that the widest layer fills its card."""
    scales = []
    for layer in layers:
        identities = layer.widths.count(0)
        room = (
            _room(sizes)
            - _gap(layer) * (len(layer.widths) - 1)
            - identities * _identity_width(sizes)
        )
        scales += [room / sum(layer.widths)] if sum(layer.widths) else []
    return max(min(scales, default=1.0), 0.0)


def _text(
    x: float, y: float, text: str, fill: str = "muted", anchor: str = "start", extra: str = ""
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{light(fill)}" text-anchor="{anchor}"{extra}>'
        f"{html.escape(text)}</text>"
    )


def _rect(
    x: float,
    y: float,
    width: float,
    height: float,
    fill: str,
    stroke: str,
    extra: str = "",
    title: str = "",
) -> str:
    inside = f"<title>{html.escape(title)}</title>" if title else ""
    fill = light(fill) if fill != "none" else fill
    size = f'width="{max(width, 1):.1f}" height="{height:.1f}" rx="{min(3, width / 5):.1f}"'
    colours = f'fill="{fill}" stroke="{light(stroke)}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} {colours}{extra}>{inside}</rect>'


def _stack(
    side: str,
    layers: Sequence[_Layer],
    x: int,
    dim: int,
    deepest: int,
    *,
    rows: int,
    top: int,
    bottom: int,
    scale: float,
    widest: int,
    sizes: DrawingSizes,
) -> str:
    """Encoder or decoder: title, cards, outlines of absent layers, embedding."""
    most = max(deepest, len(layers))
    cards = [
        _card(side, i, layer, x, _card_y(i, top, rows, sizes), scale, sizes)
        for i, layer in enumerate(layers)
    ]
    cards += [_ghost(i, x, _card_y(i, top, rows, sizes), sizes) for i in range(len(layers), most)]
    return (
        _title(side, len(layers), most, x, sizes)
        + "".join(cards)
        + _embedding(dim, widest, x, bottom + 6, sizes)
    )


def _title(side: str, layers: int, most: int, x: int, sizes: DrawingSizes) -> str:
    depth = (
        f"{layers} layer{'s' * (layers != 1)}" if layers == most else f"{layers} of {most} layers"
    )
    y = sizes.font + 8
    big = f' font-size="{sizes.font + 3}" font-weight="650"'
    return _text(x, y, side, "ink", extra=big) + _text(x + sizes.column, y, depth, anchor="end")


def _card(
    side: str, i: int, layer: _Layer, x: int, y: int, scale: float, sizes: DrawingSizes
) -> str:
    parts = [_rect(x, y, sizes.column, sizes.card, "paper", "line", ' stroke-width="1.2"')]
    left, base = x + sizes.pad + sizes.number, y + sizes.pad
    middle = y + sizes.card / 2 + sizes.font / 3
    parts += [_text(x + sizes.pad, middle, str(i + 1), "ink", extra=' font-weight="650"')]
    parts += _attention(side, layer, left, base, sizes)
    short = _chosen(layer) if sizes.words or len(layer.widths) > 1 else ""
    short = short if sizes.words else short.replace(" of ", "/")
    parts += [_text(x + sizes.column - sizes.pad, base + sizes.line - 3, short, anchor="end")]
    parts += _experts(layer, left, base + sizes.line + 6, scale, sizes)
    return "<g>" + "".join(parts) + "</g>"


def _chosen(layer: _Layer) -> str:
    """The experts of a token, as in "1 of 3"."""
    if len(layer.widths) > 1:
        return f"{layer.top_k} of {len(layer.widths)}"
    return {(): "skipped", (0,): "identity"}.get(layer.widths, "dense")


def _attention(side: str, layer: _Layer, x: float, y: float, sizes: DrawingSizes) -> Iterator[str]:
    """A bar of fixed width per attention, divided into its heads: fewer heads are wider heads
    (docs/systems/automoe.md). A skipped attention is an empty bar.
    """
    for kind, heads, colour in zip(
        ("self", "cross"), layer.heads, ("ghost", "supernet"), strict=False
    ):
        cell = sizes.bar / max(heads, 1)
        if not heads:
            dashes, title = ' stroke-dasharray="3 3"', f"{side.lower()} {kind} attention, skipped"
            yield _rect(x, y + 1, cell - 1, sizes.line - 4, "none", colour, dashes, title)
        for h in range(heads):
            title = f"{side.lower()} {kind} attention, {heads} heads"
            yield _rect(
                x + h * cell,
                y + 1,
                cell - 1,
                sizes.line - 4,
                colour,
                colour,
                ' stroke-width="0"',
                title,
            )
        x += sizes.bar + 5
        words = f"{heads} {kind}" if sizes.words else str(heads)
        yield _text(x, y + sizes.line - 3, words)
        x += len(words) * sizes.font * 0.58 + (16 if sizes.words else 6)


def _experts(layer: _Layer, x: float, y: float, scale: float, sizes: DrawingSizes) -> Iterator[str]:
    right = x + _room(sizes)
    if not layer.widths:
        dashes, title = ' stroke-dasharray="3 3" stroke-width="1.2"', "FFN, skipped"
        yield _rect(x, y, _room(sizes), sizes.box, "none", "ghost", dashes, title)
        return
    for e, width in enumerate(layer.widths, 1):
        drawn = width * scale if width else _identity_width(sizes)
        if width:
            yield _rect(
                x, y, drawn, sizes.box, "found-soft", "found", "", f"expert {e}: width {width}"
            )
            yield _box_label(x, y, width, drawn, sizes)
        else:
            yield _rect(
                x,
                y,
                drawn,
                sizes.box,
                "none",
                "found",
                ' stroke-dasharray="3 3" stroke-width="1.2"',
                f"expert {e}: identity",
            )
            yield _text(x + drawn / 2, y + sizes.box / 2 + sizes.font / 3, "id", "found", "middle")
        x += drawn + _gap(layer)
    label = str(layer.widths[0])
    if (
        len(layer.widths) == 1
        and layer.widths[0]
        and not _label(layer.widths[0], drawn, sizes)
        and right - x > sizes.font * len(label)
    ):
        yield _text(x + 3, y + sizes.box / 2 + sizes.font / 3, label, "ink")


def _label(width: int, drawn: float, sizes: DrawingSizes) -> str:
    """Label of a width in a box of this many pixels: horizontal, vertical or, if empty, none."""
    across = len(str(width)) * sizes.font * 0.6 + 4
    if drawn >= across:
        return "across"
    return (
        "upright"
        if drawn >= sizes.font and sizes.box >= len(str(width)) * (sizes.font - 2) * 0.56 + 2
        else ""
    )


def _box_label(x: float, y: float, width: int, drawn: float, sizes: DrawingSizes) -> str:
    cx, cy = x + drawn / 2, y + sizes.box / 2
    way = _label(width, drawn, sizes)
    if not way:
        return ""
    if way == "across":
        return _text(cx, cy + sizes.font / 3, str(width), "ink", "middle")
    turn = f' font-size="{sizes.font - 2}" transform="rotate(-90 {cx:.1f} {cy:.1f})"'
    return _text(cx, cy + sizes.font / 3 - 1, str(width), "ink", "middle", turn)


def _ghost(i: int, x: int, y: int, sizes: DrawingSizes) -> str:
    dashes = ' stroke-dasharray="2 5" stroke-width="1.2"'
    words = "in the space, not used" if sizes.words else "not used"
    number = _text(x + sizes.pad, y + sizes.card / 2 + sizes.font / 3, str(i + 1), "ghost")
    text = _text(
        x + sizes.column / 2, y + sizes.card / 2 + sizes.font / 3, words, "ghost", "middle"
    )
    return (
        "<g>"
        + _rect(x, y, sizes.column, sizes.card, "none", "ghost", dashes)
        + number
        + text
        + "</g>"
    )


def _embedding(dim: int, widest: int, x: int, y: int, sizes: DrawingSizes) -> str:
    """A bar for the embedding width, inside the outline of the widest one of the space."""
    height = sizes.font + 8
    outline = (
        _rect(x, y, sizes.column, height, "none", "ghost", ' stroke-dasharray="2 5"')
        if dim < widest
        else ""
    )
    bar = _rect(
        x,
        y,
        sizes.column * dim / widest,
        height,
        "supernet-soft",
        "supernet",
        "",
        f"embedding width {dim} of at most {widest}",
    )
    of = f" of {widest}" if dim < widest else ""
    words = f"embedding width {dim}{of}" if sizes.words else f"width {dim}{of}"
    return "<g>" + outline + bar + _text(x + sizes.pad, y + height - 6, words, "ink") + "</g>"


def _links(
    decoder: Sequence[_Layer], encoder_layers: int, top: int, rows: int, sizes: DrawingSizes
) -> str:
    """A curve from every decoder layer to each encoder layer that its cross attention sees."""
    start, end = sizes.decoder_x, 1 + sizes.column
    bend, blue = (start - end) * 0.5, light("supernet")
    paths = []
    for j, layer in enumerate(decoder):
        for n in range(min(layer.cross_layers, encoder_layers)):
            i = encoder_layers - 1 - n
            # spread along the card, so that the curves of a layer do not overlap
            port = (j + 1) / (len(decoder) + 1)
            y0 = _card_y(j, top, rows, sizes) + sizes.card * (
                0.3 + 0.4 * n / max(layer.cross_layers - 1, 1) if layer.cross_layers > 1 else 0.5
            )
            y1 = _card_y(i, top, rows, sizes) + sizes.card * (1 - port)
            title = f"<title>decoder layer {j + 1} attends to encoder layer {i + 1}</title>"
            bezier = f"{start - bend:.1f} {y0:.1f} {end + bend:.1f} {y1:.1f} {end} {y1:.1f}"
            paths += [
                f'<path d="M{start} {y0:.1f}C{bezier}">{title}</path>',
                f'<circle cx="{end + 2}" cy="{y1:.1f}" r="2.4" fill="{blue}" stroke="none"/>',
            ]
    style = f'fill="none" stroke="{blue}" stroke-width="1.4" stroke-opacity="0.6"'
    return f"<g {style}>{''.join(paths)}</g>"
