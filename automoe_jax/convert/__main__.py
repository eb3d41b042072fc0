"""Conversion of a published model: `python -m automoe_jax.convert --checkpoint=model.pt
--dictionary=dict.en.txt --codes=code --out=DIR`.
"""

import math
import sys
from typing import TYPE_CHECKING

from automoe_jax.command import configuration
from automoe_jax.command.run import run_for_people
from automoe_jax.config import default_config
from automoe_jax.convert.arguments import WORDS

if TYPE_CHECKING:
    from automoe_jax.convert.workdirs import Converted

# Published models translate sentences of this length at once.
_BUCKETS = (16, 32, 64, 128, 256)


def main() -> None:
    """Writes the workdir and prints how to continue."""
    parser = configuration.config_parser(
        "automoe_jax.convert",
        "Turn a checkpoint of HAT or AutoMoE into a workdir, which automoe_jax.main continues.",
    )
    parser.add_argument("--checkpoint", required=True, help="file that fairseq's training wrote")
    parser.add_argument("--out", required=True, help="new folder, the workdir")
    parser.add_argument(
        "--dictionary", required=True, help="fairseq's dict.txt, of the source or of both languages"
    )
    parser.add_argument(
        "--target_dictionary", help="dict.txt of the target, where it has a vocabulary of its own"
    )
    parser.add_argument(
        "--codes", help="BPE codes of subword-nmt or fastBPE; without them, words are pieces"
    )
    parser.add_argument(
        "--words",
        help=f"how lines become words, {', '.join(WORDS)}; by default as the folder of the model's"
        " data is named. words: what blanks separate, the others as in the originals' scripts",
    )
    parser.add_argument("--source_language", help="such as en; by default as the checkpoint says")
    parser.add_argument("--target_language", help="such as de; by default as the checkpoint says")
    default = default_config()
    default.data.buckets = _BUCKETS
    config, flags = configuration.parse(parser, sys.argv[1:], default)
    # JAX and PyTorch are imported here, so that help and mistakes are answered at once.
    from automoe_jax.convert.checkpoint import read_checkpoint
    from automoe_jax.convert.workdirs import Vocabulary, convert

    vocabulary = Vocabulary(
        flags.dictionary,
        flags.target_dictionary,
        flags.codes,
        flags.words,
        flags.source_language,
        flags.target_language,
    )
    checkpoint = read_checkpoint(flags.checkpoint)
    converted = convert(checkpoint, vocabulary, flags.out, config)
    _report(converted, flags.out, checkpoint.validation_nll)


def _report(converted: "Converted", out: str, nll: float) -> None:
    workdir, config, network, equal_experts = converted
    spec, data = network.spec, config.data
    kind = "sub-Transformer" if spec.arch is not None else "SuperNet"
    print(
        f"convert: a {kind} from {data.source_language} to {data.target_language},"
        f" {spec.vocab_size:,} source and {spec.target_size:,} target pieces, embeddings shared:"
        f" {spec.shared_embeddings}"
    )
    if not math.isnan(nll):
        print(f"convert: its last validation had {nll:.3f} nats per token")
    if equal_experts:
        print(
            "convert: the original gave all experts of a layer one width; here each has its own,"
            " and architectures with different widths were not trained"
        )
    if spec.arch is not None:
        print(f"translate: python -m automoe_jax.translate --workdir={out} < source > target")
    else:
        print(f"convert: a space of {spec.space.size():.3g} architectures")
    print(
        f"continue: python -m automoe_jax.main --config={workdir.config_path} --workdir={out}"
        f" (text: {data.source})"
    )


if __name__ == "__main__":
    sys.exit(run_for_people(main))
