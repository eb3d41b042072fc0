"""The drawing of an architecture whose layers skip blocks."""

from xml.etree import ElementTree

import pytest

from automoe_jax.report.drawing import NARROW, WIDE, architecture_svg, describe, shorthand
from tests.model.test_skips import ARCHS, SKIPPING


def test_skipped_blocks_in_words() -> None:
    arch = ARCHS["a layer of each side"]
    assert describe(arch) == (
        "Attention width 16. Encoder of width 16: layer 1: no self-attention, no FFN."
        " layer 2: 1 heads, one FFN of 16. Decoder of width 16: layer 1: no self-attention,"
        " no cross attention, no FFN. layer 2: 1 self heads, 1 cross heads over the last 2 encoder"
        " layers, one FFN of 16."
    )
    assert shorthand(arch) == "16: [skip] [16] / 16: [skip] [16]"


@pytest.mark.parametrize("sizes", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("name", ARCHS)
def test_skipped_blocks_are_drawn(name: str, sizes: object) -> None:
    drawn = architecture_svg(ARCHS[name], SKIPPING, sizes)
    titles = [one.text or "" for one in ElementTree.fromstring(drawn).iter() if "title" in one.tag]
    arch = ARCHS[name]
    ffns = sum(not widths for widths in arch.encoder_experts + arch.decoder_experts)
    heads = (arch.encoder_self_heads, arch.decoder_self_heads, arch.decoder_cross_heads)
    assert titles.count("FFN, skipped") == ffns
    assert sum("attention, skipped" in title for title in titles) == sum(
        int((one == 0).sum()) for one in heads
    )
