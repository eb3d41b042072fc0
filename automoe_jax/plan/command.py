"""Memory, FLOPs, communication and time of a training step on a mesh of devices, which need not be
present.

    python -m automoe_jax.plan --config=configs/wmt_supernet.py --mesh=data:64,expert:4 [--chip=v5e]
    [--json=FILE]

The step is that of `main`, compiled ahead of time for the mesh: by the TPU's own compiler where
libtpu is installed and a slice of this many chips exists, otherwise for simulated devices of this
machine, whose memory is an estimate. FLOPs are the closed form of `costs`, three times the forward
pass; bytes are read from the compiled program. The time is a lower bound from a model, not a
measurement.
"""

from collections.abc import Sequence

from automoe_jax.command import configuration
from automoe_jax.main import add_flags
from automoe_jax.plan.chips import CHIPS, chip


def run(argv: Sequence[str]) -> int:
    """Prints the plan of a command line, whose first word is the program."""
    parser = configuration.config_parser(
        "automoe_jax.plan",
        "Memory, FLOPs, communication and time of a training step on other devices. The flags of"
        " automoe_jax.main are accepted, so that its command line can be planned; those that do not"
        " change the step have no effect.",
    )
    parser.add_argument(
        "--mesh",
        default="data:1",
        help="devices along each axis, as in data:64,expert:4; an axis that is left out has one",
    )
    parser.add_argument(
        "--chip", default="v5e", help=f"kind of device: one of {', '.join(CHIPS)} (default: v5e)"
    )
    parser.add_argument(
        "--arch",
        default="",
        help="train this architecture alone, as retrain does: largest, smallest, or a file"
        " arch.json",
    )
    parser.add_argument(
        "--bucket",
        type=int,
        default=0,
        help="length of the batch's sentences, one of config.data.buckets (default: the longest)",
    )
    parser.add_switch(
        "widest",
        "compile the SuperNet's widest embeddings only: faster, for nearly the same memory",
    )
    parser.add_switch(
        "simulate", "use simulated devices even where the TPU's compiler is installed"
    )
    parser.add_argument("--json", help="file for the same numbers as JSON")
    add_flags(parser)
    config, flags = configuration.parse(parser, argv[1:])
    kind = chip(flags.chip)
    # JAX is imported here, so that help and mistakes are answered at once. Planning takes no
    # devices, so it also runs where they are busy or missing.
    import jax

    jax.config.update("jax_platforms", "cpu")
    from automoe_jax.plan.estimate import make_plan
    from automoe_jax.plan.job import make_job, parse_mesh
    from automoe_jax.plan.text import report, to_json
    from automoe_jax.runtime.files import atomic_writer

    job = make_job(config, parse_mesh(flags.mesh), flags.arch, flags.bucket, flags.widest)
    plan = make_plan(job, kind, flags.simulate)
    print(report(plan))
    if flags.json:
        with atomic_writer(flags.json) as file:
            file.write(to_json(plan).encode())
    return 0
