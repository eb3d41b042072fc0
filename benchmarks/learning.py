r"""Initial scale of the feed-forward branch against the methods: validation loss of short runs.

    python -m benchmarks.learning --workdir=runs/learning [--updates=0.1] [--tokens=1024] \
        [--warmup=0.1]

Trains each system from scratch on the built-in text with every scheme of initial weights, and with
pre-norm, and prints validation loss in nats per token as a Markdown table. Finished runs are
skipped. The first column drops hidden units at the dropout rate, as this code did before
2026-11-25; the last one repeats the scheme of the system's original code, the default now. Two
seeds where one does not decide. No test text is used.
"""

import dataclasses
import functools
import math
import sys

import jax

from automoe_jax.command.parser import Parser
from automoe_jax.command.run import run_for_people
from automoe_jax.config import Config, default_config, from_config_dict
from automoe_jax.errors import UserError
from automoe_jax.model.network import initialised
from automoe_jax.model.transformer import training_options
from automoe_jax.runtime.memory import keep_freed_memory
from automoe_jax.stages import run_stages
from automoe_jax.train import runs
from automoe_jax.train.loop import Run
from automoe_jax.workdir import Workdir, open_workdir

BEFORE = "xavier, hidden units dropped"  # as this code was before 2026-11-25
SCHEMES = {
    BEFORE: {"activation_dropout": 0.1},
    "xavier": {},
    "linear": {"ffn_init": "linear"},
    "truncated normal": {"ffn_init": "truncated_normal"},
    "xavier, pre-norm": {"norm": "pre"},
}


@dataclasses.dataclass(frozen=True)
class System:
    """A row of the table: one way to train on the same text."""

    name: str
    width: int = 64
    updates: int = 600
    experts: int = 1
    every: int = 1  # experts in every layer, or in every second one
    seed: int = 1
    passes: int = 1
    consistency: float = 0.0
    balance: float = 0.0
    router: dict = dataclasses.field(default_factory=dict)
    schemes: tuple[str, ...] = tuple(SCHEMES)
    original: str = "xavier"  # the scheme of its original code, the default of configs/systems.py


@dataclasses.dataclass(frozen=True)
class Training:
    """How the runs of a table train."""

    share: float = 1.0  # of each system's updates
    tokens: int = 2048  # padded target tokens an update
    warmup: float = 0.25  # share of the updates

    def __post_init__(self) -> None:
        """Raises `UserError` for a share or a number of tokens with which nothing can train."""
        rules = {
            "updates": (self.share, 0 < self.share < math.inf, "must be positive"),
            "tokens": (self.tokens, self.tokens > 0, "must be positive"),
            "warmup": (self.warmup, 0 <= self.warmup <= 1, "must be in [0, 1]"),
        }
        for flag, (value, holds, rule) in rules.items():
            if not holds:
                raise UserError(f"--{flag}={value:g} {rule}")

    @property
    def folder(self) -> str:
        """The folder of its runs in the working directory."""
        changed = dataclasses.asdict(self).items() - dataclasses.asdict(Training()).items()
        return "-".join(["trained", *(f"{name}_{value}" for name, value in sorted(changed))])


RANDOM = {"kind": "random"}
IMPORTANCE = {"kind": "importance"}
THOR = System("THOR", experts=4, every=2, passes=2, router=RANDOM, original="linear")
WIDE = System("width 128", width=128, updates=300)
DENSE = System("dense")
LONG, LINEAR = "2400 updates", (BEFORE, "linear")
PLAIN = (BEFORE, "xavier", "linear")  # of systems that start from Xavier's weights
SYSTEMS = (
    dataclasses.replace(THOR, name="THOR α = 5, seed 1", consistency=5.0),
    dataclasses.replace(THOR, name="THOR α = 5, seed 2", consistency=5.0, seed=2),
    dataclasses.replace(THOR, name="THOR α = 0"),
    DENSE,
    System("dense, two passes α = 5 (R-Drop)", passes=2, consistency=5.0),
    dataclasses.replace(WIDE, name="dense, width 128"),
    dataclasses.replace(WIDE, name="top-k, width 128", experts=4),
    dataclasses.replace(
        WIDE, name="top-k with gates of one, width 128", experts=4, router={"gate": "one"}
    ),
    dataclasses.replace(
        WIDE, name="DA-MoE renormalised, width 128", experts=4, balance=0.01, router=IMPORTANCE
    ),
    dataclasses.replace(
        WIDE,
        name="DA-MoE raw gates, width 128",
        experts=4,
        balance=0.01,
        router=IMPORTANCE | {"renormalise": False},
    ),
    dataclasses.replace(DENSE, name=f"dense, {LONG}", updates=2400, schemes=PLAIN),
    dataclasses.replace(DENSE, name=f"top-k, {LONG}", updates=2400, experts=4, schemes=PLAIN),
    dataclasses.replace(
        THOR, name=f"THOR α = 5, {LONG}", updates=2400, consistency=5.0, schemes=LINEAR
    ),
)


def configuration(system: System, scheme: str, training: Training) -> Config:
    """Settings of one run: 2 + 2 layers, FFN four times the width."""
    config = default_config()
    config.seed = system.seed
    config.data.source, config.data.vocab_size, config.data.buckets = "toy", 1000, (24,)
    config.data.validation_pairs = config.data.test_pairs = 500
    config.model.update(SCHEMES[scheme])
    config.router.update(system.router)
    space = config.space
    space.qkv_dim = system.width
    space.encoder_embed_dims = space.decoder_embed_dims = (system.width,)
    space.encoder_layers = space.decoder_layers = (2,)
    space.encoder_self_heads = space.decoder_self_heads = space.decoder_cross_heads = (4,)
    space.cross_layers = (1,)
    space.encoder_experts = space.decoder_experts = (system.experts,)
    space.expert_layers_every = system.every
    space.expert_ffn_dims = (4 * system.width,)
    train = config.retrain
    train.steps = max(1, round(system.updates * training.share))
    train.warmup_steps = round(train.steps * training.warmup)
    train.learning_rate = 4e-3
    train.tokens_per_batch = training.tokens
    train.passes, train.consistency = system.passes, system.consistency
    train.balance_loss = system.balance
    train.evaluate_every = train.checkpoint_every = max(1, train.steps // 4)
    return from_config_dict(config)


def validation_loss(prepared: Workdir, system: System, scheme: str, training: Training) -> float:
    """Nats per token of the run, which is trained unless its folder is finished."""
    config = configuration(system, scheme, training)
    arch, name = config.space.largest(), f"{system.name}, {scheme}"
    run = Run(
        title=name,
        folder=prepared.root / training.folder / "".join(filter(str.isalnum, name)),
        train=config.retrain,
        forward_options=training_options(config),
        seed=config.seed,
        archs=lambda _: [arch],
        probes={"": arch},
    )
    key = jax.random.key(config.seed)
    start = functools.partial(initialised, prepared.spec(config, arch), key)
    tokens = (prepared.tokens("train"), prepared.tokens("validation"))
    return runs.complete(run, start, config.data, *tokens).validation_nll


def main() -> None:
    """Trains what is missing and prints the table."""
    parser = Parser("benchmarks.learning", "Initial weights on small runs, as a table.")
    parser.add_argument("--workdir", default="runs/learning", help="where the runs are kept")
    parser.add_argument("--updates", type=float, default=1.0, help="share of each run's updates")
    parser.add_argument("--tokens", type=int, default=2048, help="padded target tokens an update")
    parser.add_argument("--warmup", type=float, default=0.25, help="share of the updates")
    parser.add_argument("--rows", default="", help="only the rows whose name holds this text")
    flags = parser.parse()
    training = Training(flags.updates, flags.tokens, flags.warmup)
    keep_freed_memory()
    config = configuration(DENSE, "xavier", Training())
    prepared = open_workdir(flags.workdir, config)
    run_stages(dataclasses.replace(config, stages="prepare"), prepared)
    print("| run | " + " | ".join(SCHEMES) + " | now the default |")
    print("| --- |" + " ---: |" * (len(SCHEMES) + 1))
    for system in SYSTEMS:
        if flags.rows in system.name:
            losses = {
                scheme: f"{validation_loss(prepared, system, scheme, training):.2f}"
                for scheme in system.schemes
            }
            cells = [losses.get(scheme, "") for scheme in (*SCHEMES, system.original)]
            print(f"| {system.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(run_for_people(main, resumes=True))
