"""Every setting of an experiment: frozen dataclasses with their defaults, ranges and messages.

An experiment is a short file whose `get_config()` changes some defaults:

    from automoe_jax.config import default_config

    def get_config():
        config = default_config()
        config.data.source = "debian"
        return config

`default_config` returns the editable `ConfigDict`; `from_config_dict` checks and freezes it. Tuples
list the choices of a gene (AutoMoE, arXiv 2210.07535, table 2) or the lengths of buckets. Lengths
count tokens.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ml_collections import config_dict

from automoe_jax import routers
from automoe_jax.costs import LENGTH
from automoe_jax.data import sources
from automoe_jax.data.formats.table import FORMATS, TAB_NAMES
from automoe_jax.errors import UserError, suggestion
from automoe_jax.export.settings import PRECISIONS
from automoe_jax.registry import import_plugins
from automoe_jax.routers import ROUTERS, TOP_K, RouterConfig, Rule
from automoe_jax.search import choice, limits
from automoe_jax.search.algorithms import ALGORITHMS
from automoe_jax.space import SearchSpace

REMATS = ("none", "dots", "full")
FFN_INITS = ("xavier", "linear", "truncated_normal")
SHARED_EMBEDDINGS = ("all", "decoder", "none")
LEAST_PIECES = 8  # of a vocabulary
NORMS = ("post", "pre")
TASKS = ("translate", "classify")
STAGES = ("prepare", "supernet", "search", "retrain", "evaluate", "report")


DUPLICATES = ("", "near", "exact", "kept")


@dataclasses.dataclass(frozen=True)
class CleaningConfig:
    """Rules that leave pairs out of a text; what they leave out is in the workdir's
    data/cleaning.json and in the report.
    """

    # largest ratio of the sides' lengths in characters, relative to its median over the text, in
    # either direction; 0: no limit
    max_length_ratio: float = 0.0
    drop_identical: bool = False  # leave out pairs whose sides are the same, apart from case
    # smallest share of the letters of each side in the scripts of its language; 0: no limit
    min_script_share: float = 0.0
    source_scripts: str = ""  # as in "Latn,Cyrl" (ISO 15924); empty: those usual for the language
    target_scripts: str = ""
    # repeated pairs that are left out: near (they differ in case, digits, punctuation or blanks
    # only), exact or none (kept); empty: near for text, kept for folder and tfds
    duplicates: str = ""
    # training lines that share at least this part of their character 4-grams with a held-out line
    # (Jaccard similarity) are left out too; 1: only near-duplicates
    max_similarity: float = 1.0


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Source of the text, its vocabulary and the lengths of batches."""

    # toy, debian, text, folder, tfds, or one that the configuration file registers
    source: str = "toy"
    source_language: str = "en"
    target_language: str = "de"
    # text: the source file, or a file holding both sides; several by patterns such as "*.en" or
    # with commas between them; folder: with parallel files; tfds: the prepared dataset's folder
    path: str = ""
    target_path: str = ""  # text: the target file; empty when `path` holds both sides
    # text: lines, tsv, csv or jsonl, or one that the configuration file registers; empty: by the
    # ending of a name or the content
    format: str = ""
    # text: names of columns or fields, such as "en" or "translation.en", or numbers of columns from
    # 1; empty: recognised by the languages, or by names such as "source" and "target"
    source_column: str = ""
    target_column: str = ""
    delimiter: str = ""  # text: between the columns of CSV; empty: a comma
    # text: of files without a byte-order mark, such as "cp1252"; empty: UTF-8
    encoding: str = ""
    target_encoding: str = ""  # text: of the target file; empty: as `encoding`
    cleaning: CleaningConfig = CleaningConfig()  # text, folder, tfds; max_similarity: all sources
    skip_blank: bool = False  # text: leave out pairs with a blank side, instead of an error
    # folder: names of sets, without languages and with patterns, as in "newstest2013"; empty: usual
    # names, or the newest and second newest newstest
    validation_files: str = ""
    test_files: str = ""
    name: str = ""  # tfds: the dataset, as in "wmt14_translate/de-en"
    pairs: int = 0  # maximum of training pairs, 0: all; toy: number to generate, 0: its default
    # for the search and the choice of checkpoints, where the source has no validation split
    validation_pairs: int = 1000
    test_pairs: int = 1000  # for the scores, where the source has no test split
    vocab_size: int = 4000  # pieces of the SentencePiece BPE, including four special ones
    # one vocabulary for both languages; False: one for each, with model.shared_embeddings not 'all'
    joint_vocabulary: bool = True
    target_vocab_size: int = 0  # pieces of a separate target vocabulary; 0: as many as vocab_size
    # tokenizer.model of another workdir, used as it is; empty: the pieces are learnt from the text
    tokenizer: str = ""
    target_tokenizer: str = ""  # the same of a separate target vocabulary
    # sentences are padded to the next of these lengths; training skips longer ones
    buckets: tuple[int, ...] = (16, 32, 64)
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Properties of the Transformer that no gene determines."""

    dropout: float = 0.1  # scaled by sub width / super width
    attention_dropout: float = 0.1
    # of the experts' hidden units, scaled like `dropout`; 0 in every published recipe
    activation_dropout: float = 0.0
    # of the matrix products: float32 or bfloat16; parameters and router stay float32
    dtype: str = "float32"
    # scheme of the experts' initial weights: xavier (AutoMoE, HAT), linear (THOR) or
    # truncated_normal (Switch Transformer)
    ffn_init: str = "xavier"
    # LayerNorm: post (after each residual sum, the papers' choice) or pre (before each branch, and
    # once after the last layer)
    norm: str = "post"
    # tables of the vocabulary: all (one for source, target and output), decoder (the source has its
    # own) or none (three)
    shared_embeddings: str = "all"


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    steps: int = 1000  # updates
    # padded target tokens of one update, over all devices and micro-batches
    tokens_per_batch: int = 2048
    accumulate: int = 1  # micro-batches of an update
    learning_rate: float = 1e-3  # the peak
    warmup_steps: int = 200
    warmup_learning_rate: float = 1e-7  # at the start of the warm-up
    final_learning_rate: float = 1e-7  # at the end of the cosine
    schedule: str = "cosine"  # cosine or inverse_sqrt, after the warm-up
    adam_b1: float = 0.9
    adam_b2: float = 0.98
    weight_decay: float = 0.0
    clip_norm: float = 0.0  # 0: no clipping
    label_smoothing: float = 0.1
    # coefficient of the Switch load-balancing loss; 0: off, as the paper's release
    balance_loss: float = 0.0
    # the balancing loss over the layers with several experts: mean, or sum (Switch)
    balance_layers: str = "mean"
    z_loss: float = 0.0  # coefficient of the mean (log Σ exp)² of the routers' logits (Switch)
    # 2: each batch goes forward twice, with its own draws and dropout (THOR, arXiv 2110.04260)
    passes: int = 1
    consistency: float = 0.0  # α of the divergence between the two passes' predictions
    # SuperNet only: uniform; sandwich (largest, smallest and random ones in every update); or fair
    # (in each 12 updates every gene takes its choices equally often), for the whole space
    sampling: str = "uniform"
    # SuperNet only: draw sub-networks within the limits of the search; off: from the whole space,
    # which serves searches under other limits too
    within_limits: bool = True
    # SuperNet only: sets of weights of each layer, of which an architecture uses a mixture that
    # depends on its genes (Mixture-of-Supernets, arXiv 2306.04845); 1: the same weights for all
    weight_sets: int = 1
    # SuperNet only: LayerNorms with gains and biases for each embedding width (Slimmable Networks,
    # arXiv 1812.08928); off: the leading ones of the largest width for all
    width_norms: bool = False
    # SuperNet only: first updates that train the largest architecture only, a start that all
    # sub-networks share; not with sandwich, which trains it in every update
    largest_steps: int = 0
    sandwich_random: int = 2  # random sub-networks, next to the largest and smallest
    # sandwich only: the others are trained on the largest one's predictions
    distillation: bool = True
    # sandwich only: final share of distillation in the others' loss, the rest is cross entropy
    distillation_weight: float = 0.5
    # sandwich only: share of the run in which that share rises from 0
    distillation_warmup: float = 0.5
    log_every: int = 20  # updates
    evaluate_every: int = 500
    checkpoint_every: int = 500
    # number of last checkpoints, whose average is used if it validates best; 1: no averaging
    average_checkpoints: int = 3
    keep_best: int = 1  # checkpoints kept for their validation loss, next to the last ones


SAMPLINGS = ("uniform", "sandwich", "fair")
# Settings of `TrainConfig` without effect on a network that is trained alone.
SUPERNET_ONLY = (
    "sampling",
    "within_limits",
    "weight_sets",
    "width_norms",
    "largest_steps",
    "sandwich_random",
    "distillation",
    "distillation_weight",
    "distillation_warmup",
)


@dataclasses.dataclass(frozen=True)
class RetrainConfig(TrainConfig):
    """Training of the found sub-Transformer and of the networks that it is compared with."""

    # architecture to train: best (the search's result), front:3 (the third of the Pareto front,
    # cheapest first), fastest:0.98 (the fastest within 2 % of the lowest loss), or a JSON file
    arch: str = "best"
    # number of architectures that are trained, the best of the search; the one with the highest
    # BLEU, or accuracy, on the validation text is used
    candidates: int = 1
    init: str = "scratch"  # scratch or inherited: from the SuperNet's weights
    dense_baseline: bool = True  # also train the largest dense architecture of the space


@dataclasses.dataclass(frozen=True)
class DeviceConfig:
    """Conditions of the translator on its device: those of `search.max_latency_ms`. Sentences
    have `search.source_length` and `search.target_length` tokens.
    """

    precision: str = "float32"  # or int8
    batch: int = 1  # sentences translated together
    beam_size: int = 5
    threads: int = 1
    # file of `automoe_jax.latency collect` on another device; "": this device is timed
    file: str = ""
    architectures: int = 48  # timed at most
    error: float = 0.03  # mean held-out error of the prediction at which timing stops


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """The search for the best sub-Transformer (AutoMoE, arXiv 2210.07535, evolutionary search)."""

    # evolution, nsga2 (a front of loss and `objective`), random (as many candidates as evolution
    # would score), cost_ranking (the largest architecture within the limits), knapsack (scores of
    # single parts of the largest architecture, then an integer program), or one that the
    # configuration file registers
    algorithm: str = "evolution"
    # cost on the second axis of the Pareto front, which nsga2 minimises: flops, params,
    # active_params, a cost of the device that has a limit, or one from outside the package
    objective: str = "flops"
    iterations: int = 15
    population: int = 125
    parents: int = 25
    mutations: int = 50
    crossovers: int = 50
    mutation_prob: float = 0.3  # of each gene
    # expected FLOPs without the vocabulary projection, at the lengths below; 0: no limit
    max_flops: float = 0.0
    max_params: float = 0.0  # total parameters without embeddings; 0: no limit
    max_active_params: float = 0.0  # mean active parameters without embeddings; 0: no limit
    # of one batch translated on `device`, in milliseconds; 0: no limit
    max_latency_ms: float = 0.0
    # the same relative to the largest dense architecture of the space; 0: no limit
    max_latency_share: float = 0.0
    max_file_mb: float = 0.0  # of the exported model with its weights; 0: no limit
    # largest resident memory of a process that translates on `device`; 0: no limit
    max_memory_mb: float = 0.0
    device: DeviceConfig = DeviceConfig()
    limits: str = ""  # of costs from outside the package, as in "joules=2.5,euros=1"
    source_length: int = LENGTH
    target_length: int = LENGTH
    # padded target tokens of the validation text that score a candidate; 0: all
    validation_tokens: int = 20_000
    # standard errors by which a candidate must be worse than its rival to be stopped before all
    # tokens are scored; 0: no early stopping
    stop_early: float = 5.0
    # under a limit, also search among dense architectures, with the same settings; what is found is
    # trained and scored like the search's result
    dense_rival: bool = True


MOST_TRANSLATIONS = 100  # of a piece, that the table of the shortlist holds


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Translation of the test text, and scores."""

    beam_size: int = 5
    length_penalty: float = 0.6
    max_pairs: int = 0  # score only the first pairs of the test text; 0: all
    batch_size: int = 64  # sentences translated together
    samples: int = 8  # translations shown in the report
    latency_runs: int = 0  # translations of one sentence that are timed; 0: none
    # also translate in 8-bit integers, which become the default of `translate` if they lose at most
    # 0.3 BLEU
    int8: bool = False
    # N: also translate with a shortlist, the N most frequent pieces and the N best translations of
    # each source piece, at most 100; `translate` uses it if it loses less than 0.1 BLEU and, in
    # 8-bit integers, at most 0.3 BLEU together with them. 0: no
    shortlist: int = 0


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Numbers of devices along the axes of the mesh; their product is the number of all devices."""

    data: int = 0  # share the sentences of a batch; 0: all devices that the other axes leave
    expert: int = 1  # share the sentences too, and the hidden units of each layer's experts
    model: int = 1  # share those hidden units, the heads and the vocabulary, but no sentences


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole experiment."""

    seed: int = 0
    # or classify: an encoder without a decoder predicts the class that the target names
    task: str = "translate"
    stages: str = ",".join(STAGES)  # stages to run, in this order; finished ones are skipped
    # modules to import first, or paths of .py files, separated by commas: their entries are
    # known wherever this configuration is read, in `translate` too
    plugins: str = ""
    data: DataConfig = DataConfig()
    space: SearchSpace = SearchSpace()
    model: ModelConfig = ModelConfig()
    router: RouterConfig = TOP_K
    supernet: TrainConfig = TrainConfig()
    search: SearchConfig = SearchConfig()
    retrain: RetrainConfig = RetrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    mesh: MeshConfig = MeshConfig()
    # recomputation in training to save memory: none, dots (all but products with weights) or full
    # (layers)
    remat: str = "none"
    # also split parameters and the optimizer's state over the data axis of the mesh
    fsdp: bool = False


def default_config() -> config_dict.ConfigDict:
    """Every setting at its default, to be edited by a configuration file or the command line."""
    return config_dict.ConfigDict(dataclasses.asdict(Config()))


def from_config_dict(settings: Mapping[str, Any]) -> Config:
    """The frozen, checked configuration; raises `UserError` with the field, its value and the rule
    it breaks.
    """
    if isinstance(settings, config_dict.ConfigDict):
        settings = settings.to_dict()
    import_plugins(str(settings.get("plugins", "")))
    config = _freeze(Config, settings, "")
    check(config)
    return config


def from_flat(settings: Mapping[str, Any]) -> Config:
    """The inverse of `flatten`, frozen and checked; raises `UserError` as `from_config_dict`
    does.
    """
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        *groups, field = name.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[field] = value
    return from_config_dict(nested)


def check(config: Config) -> None:
    """Raises `UserError` for the first setting outside its range, or a limit that no architecture
    meets.
    """
    for field, value, holds, rule in _rules(config):
        if not holds:
            raise UserError(f"{field}={value!r} {rule}")
    limits.check_closed_form(config.space, config.search, config.router)


def stage_names(config: Config) -> tuple[str, ...]:
    """The stages to run, in the order of the pipeline."""
    wanted = {name.strip() for name in config.stages.split(",") if name.strip()}
    return tuple(stage for stage in STAGES if stage in wanted)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {"data.source": …}."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= (
            flatten(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{name}": value}
        )
    return flat


def _freeze(kind: type, settings: Mapping[str, Any], prefix: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values = {}
    for name, value in settings.items():
        if name not in fields:
            known = [f"{prefix}{field}" for field in fields]
            raise UserError(
                f"config.{prefix}{name} is not a setting{suggestion(prefix + name, known)}"
            )
        default = fields[name].default
        if kind is RouterConfig and name == "options":
            default = ROUTERS.find(settings.get("kind", RouterConfig.kind)).options
        if dataclasses.is_dataclass(default):
            if not isinstance(value, Mapping):
                raise UserError(
                    f"config.{prefix}{name}={value!r} must hold the settings of"
                    f" {type(default).__name__}"
                )
            value = _freeze(type(default), value, f"{prefix}{name}.")
        else:
            value = _coerce(value, default, f"{prefix}{name}")
        values[name] = value
    return kind(**values)


def _coerce(value: Any, default: Any, name: str) -> Any:
    """`value` as the type of `default`: accepts whole numbers for floats and lists for tuples."""
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        if not value or not all(
            isinstance(item, int) and not isinstance(item, bool) for item in value
        ):
            raise UserError(
                f"config.{name}={value!r} must be a list of whole numbers that is not empty"
            )
        return tuple(value)
    if (
        isinstance(default, float)
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    ):
        return _finite(value, name)
    if (
        isinstance(default, int)
        and not isinstance(default, bool)
        and isinstance(value, float)
        and value.is_integer()
    ):
        return int(value)
    if type(value) is not type(default):
        raise UserError(f"config.{name}={value!r} must be of type {type(default).__name__}")
    return value


def _finite(value: float, name: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise UserError(f"config.{name}={value!r} must be a finite number")
    return number


def _rules(config: Config) -> Iterator[Rule]:
    """Every rule of the settings, in the order in which broken ones are reported."""
    yield "config.seed", config.seed, 0 <= config.seed < 2**32, "must be in [0, 2³²)"
    for name in [part.strip() for part in config.stages.split(",")]:
        rule = f"is not a stage; the stages are {', '.join(STAGES)}{suggestion(name, list(STAGES))}"
        yield "config.stages", name, name in STAGES, rule
    yield from sources.rules(config.data, config.task)
    yield from _data_rules(config.data)
    yield from _model_rules(config.model)
    yield from _vocabulary_rules(config)
    yield from _task_rules(config)
    yield from routers.rules(config.router, config.space, config.mesh.expert)
    yield from _mesh_rules(config)
    yield from _each("config", config, ("remat",), *_one_of(REMATS))
    parts = max(config.mesh.data, 1) * config.mesh.expert
    yield from _train_rules("config.supernet", config.supernet, config.data.buckets[-1], parts)
    yield from _train_rules("config.retrain", config.retrain, config.data.buckets[-1], parts)
    yield from _retrain_rules(config)
    yield from _search_rules(config.search)
    yield from _evaluate_rules(config.evaluate)


def _each(
    prefix: str, settings: Any, names: Iterable[str], holds: Callable[[Any], bool], rule: str
) -> Iterator[Rule]:
    """The same rule for several settings of a group."""
    for name in names:
        value = getattr(settings, name)
        yield f"{prefix}.{name}", value, holds(value), rule


def _one_of(values: tuple[str, ...]) -> tuple[Callable[[Any], bool], str]:
    """Whether a value is one of these, and the rule in words."""
    return values.__contains__, f"must be {_alternatives(values)}"


def _alternatives(values: tuple[str, ...]) -> str:
    return " or ".join(values) if len(values) == 2 else f"one of {', '.join(values)}"


def _is_positive(value: float) -> bool:
    return value > 0


def _is_not_negative(value: float) -> bool:
    return value >= 0


def _is_rate(value: float) -> bool:
    return 0 <= value < 1


_POSITIVE = (_is_positive, "must be positive")
_NOT_NEGATIVE = (_is_not_negative, "must not be negative")
_RATE = (_is_rate, "must be in [0, 1)")


def _data_rules(data: DataConfig) -> Iterator[Rule]:
    size, rule = data.vocab_size, f"must be at least {LEAST_PIECES}"
    yield "config.data.vocab_size", size, size >= LEAST_PIECES, rule
    pairs = zip(data.buckets, data.buckets[1:], strict=False)
    rising = all(0 < a < b for a, b in pairs) and data.buckets[0] > 1
    yield "config.data.buckets", data.buckets, rising, "must be rising lengths greater than 1"
    yield from _each("config.data", data, ("pairs", "seed"), *_NOT_NEGATIVE)
    yield from _each("config.data", data, ("validation_pairs", "test_pairs"), *_POSITIVE)
    known = not data.format or data.format in FORMATS
    yield FORMATS.setting, data.format, known, FORMATS.rule(data.format)
    yield from _cleaning_rules(data.cleaning)
    single = len(data.delimiter) <= 1 and data.delimiter not in ('"', "\n", "\r")
    rule = "must be one character, no quotation mark or line break, or 'tab'"
    yield "config.data.delimiter", data.delimiter, single or data.delimiter in TAB_NAMES, rule


def _cleaning_rules(cleaning: CleaningConfig) -> Iterator[Rule]:
    prefix = "config.data.cleaning"
    yield from _each(prefix, cleaning, ("duplicates",), *_one_of(DUPLICATES))
    ratio, rule = cleaning.max_length_ratio, "must be greater than 1, or 0 for no limit"
    yield f"{prefix}.max_length_ratio", ratio, ratio == 0 or ratio > 1, rule
    share = cleaning.min_script_share
    yield f"{prefix}.min_script_share", share, 0 <= share <= 1, "must be in [0, 1]"
    similarity, rule = cleaning.max_similarity, "must be in [0.5, 1]"
    yield f"{prefix}.max_similarity", similarity, 0.5 <= similarity <= 1, rule


def _model_rules(model: ModelConfig) -> Iterator[Rule]:
    rates = ("dropout", "attention_dropout", "activation_dropout")
    yield from _each("config.model", model, rates, *_RATE)
    choices = {
        "dtype": ("float32", "bfloat16"),
        "ffn_init": FFN_INITS,
        "norm": NORMS,
        "shared_embeddings": SHARED_EMBEDDINGS,
    }
    for name, valid in choices.items():
        yield from _each("config.model", model, (name,), *_one_of(valid))


def _retrain_rules(config: Config) -> Iterator[Rule]:
    retrain, prefix = config.retrain, "config.retrain"
    yield from _each(prefix, retrain, ("init",), *_one_of(("scratch", "inherited")))
    yield choice.SETTING, retrain.arch, choice.is_valid(retrain.arch), choice.RULE
    unsearched = choice.is_searched(retrain.arch) and config.space.size() == 1
    rule = "needs a search, but config.space has one architecture; leave it 'best'"
    yield choice.SETTING, retrain.arch, not unsearched, rule
    yield from _each(prefix, retrain, ("candidates",), *_POSITIVE)
    several, single = retrain.candidates > 1, config.space.size() == 1
    rule = "needs several architectures, but config.space has one; leave it 1"
    yield f"{prefix}.candidates", retrain.candidates, not (several and single), rule
    rule = f"needs {choice.SETTING}='best', since it trains the best of the search; set either"
    elsewhere = several and retrain.arch != choice.BEST
    yield f"{prefix}.candidates", retrain.candidates, not elsewhere, rule
    alone = retrain.init == "inherited" and config.space.size() == 1
    rule = (
        "needs a SuperNet, but config.space has one architecture, for which none is trained; set"
        " 'scratch', or give the space more choices"
    )
    yield f"{prefix}.init", retrain.init, not alone, rule
    for name in SUPERNET_ONLY:
        value, default = getattr(retrain, name), getattr(RetrainConfig, name)
        rule = f"is for the SuperNet only; set config.supernet.{name}, or leave it {default!r}"
        yield f"{prefix}.{name}", value, value == default, rule


def _search_rules(search: SearchConfig) -> Iterator[Rule]:
    name, prefix = search.algorithm, "config.search"
    yield ALGORITHMS.setting, name, name in ALGORITHMS, ALGORITHMS.rule(name)
    yield from limits.rules(search)
    positive = ("population", "parents", "source_length", "target_length")
    yield from _each(prefix, search, positive, *_POSITIVE)
    others = ("iterations", "mutations", "crossovers", "validation_tokens", "stop_early")
    yield from _each(prefix, search, others, *_NOT_NEGATIVE)
    parents, rule = search.parents, f"must not exceed search.population={search.population}"
    yield f"{prefix}.parents", parents, parents <= search.population, rule
    yield from _each(f"{prefix}.device", search.device, ("batch", "beam_size"), *_POSITIVE)
    yield from _each(f"{prefix}.device", search.device, ("threads",), *_POSITIVE)
    yield from _each(f"{prefix}.device", search.device, ("precision",), *_one_of(PRECISIONS))
    least = 12
    number, rule = search.device.architectures, f"must be at least {least}"
    yield f"{prefix}.device.architectures", number, number >= least, rule
    error = search.device.error
    yield f"{prefix}.device.error", error, 0 < error < 1, "must be in (0, 1)"
    share = search.mutation_prob
    yield f"{prefix}.mutation_prob", share, 0 < share <= 1, "must be in (0, 1]"


def _evaluate_rules(evaluate: EvaluateConfig) -> Iterator[Rule]:
    prefix = "config.evaluate"
    yield from _each(prefix, evaluate, ("beam_size", "batch_size"), *_POSITIVE)
    others = ("max_pairs", "samples", "length_penalty", "latency_runs")
    yield from _each(prefix, evaluate, others, *_NOT_NEGATIVE)
    count, rule = evaluate.shortlist, f"must be between 0, none, and {MOST_TRANSLATIONS}"
    yield f"{prefix}.shortlist", count, 0 <= count <= MOST_TRANSLATIONS, rule


def _vocabulary_rules(config: Config) -> Iterator[Rule]:
    data, shared = config.data, config.model.shared_embeddings
    yield (
        "config.data.joint_vocabulary",
        data.joint_vocabulary,
        data.joint_vocabulary or config.task == "translate",
        "is for translation; a classifier has one vocabulary, so leave it True",
    )
    yield (
        "config.model.shared_embeddings",
        shared,
        data.joint_vocabulary or shared != "all",
        "needs one vocabulary; set 'decoder' or 'none', or data.joint_vocabulary=True",
    )
    size = data.target_vocab_size
    valid = size == 0 if data.joint_vocabulary else size == 0 or size >= LEAST_PIECES
    rule = (
        "is for data.joint_vocabulary=False; leave it 0"
        if data.joint_vocabulary
        else f"must be at least {LEAST_PIECES}, or 0 for as many pieces as data.vocab_size"
    )
    yield "config.data.target_vocab_size", size, valid, rule
    given, joint = data.target_tokenizer, data.joint_vocabulary
    rule = (
        "is for data.joint_vocabulary=False; leave it empty"
        if joint
        else "must be given with data.tokenizer, or neither of them"
    )
    valid = not given if joint else bool(given) == bool(data.tokenizer)
    yield "config.data.target_tokenizer", given, valid, rule


def _task_rules(config: Config) -> Iterator[Rule]:
    classify, layers = config.task == "classify", config.space.decoder_layers
    yield "config.task", config.task, config.task in TASKS, f"must be one of {', '.join(TASKS)}"
    rule = "must be (0,) when config.task='classify', which has no decoder, and only then"
    yield "config.space.decoder_layers", layers, (layers == (0,)) == classify, rule
    if classify:
        yield (
            "config.model.shared_embeddings",
            config.model.shared_embeddings,
            config.model.shared_embeddings == "all",
            "is for translation; leave it 'all'",
        )
        yield (
            "config.evaluate.int8",
            config.evaluate.int8,
            not config.evaluate.int8,
            "is for translation; leave it False",
        )
        yield (
            "config.evaluate.shortlist",
            config.evaluate.shortlist,
            not config.evaluate.shortlist,
            "is for translation; leave it 0",
        )


def _mesh_rules(config: Config) -> Iterator[Rule]:
    mesh, space = config.mesh, config.space
    yield (
        "config.mesh.data",
        mesh.data,
        mesh.data >= 0,
        "must be positive, or 0 for all devices that the other axes leave",
    )
    for name in ("expert", "model"):
        yield (
            f"config.mesh.{name}",
            getattr(mesh, name),
            getattr(mesh, name) > 0,
            "must be positive",
        )
    # Devices hold equal parts of every layer's hidden units, in a sub-Transformer of any of these
    # widths too.
    parts = mesh.expert * mesh.model
    names = "config.mesh.expert" if mesh.model == 1 else "config.mesh.expert · config.mesh.model"
    divides = all(width % parts == 0 for width in space.expert_ffn_dims)
    yield (
        names,
        parts,
        divides,
        f"must divide every width of config.space.expert_ffn_dims={space.expert_ffn_dims}",
    )
    yield (
        "config.mesh.model",
        mesh.model,
        space.qkv_dim % mesh.model == 0,
        f"must divide config.space.qkv_dim={space.qkv_dim}",
    )
    for name in ("vocab_size", "target_vocab_size"):
        pieces = getattr(config.data, name)
        yield (
            "config.mesh.model",
            mesh.model,
            pieces % max(mesh.model, 1) == 0,
            f"must divide config.data.{name}={pieces}",
        )


def _train_rules(prefix: str, train: TrainConfig, longest: int, parts: int) -> Iterator[Rule]:
    positive = (
        "steps",
        "accumulate",
        "learning_rate",
        "log_every",
        "evaluate_every",
        "checkpoint_every",
        "average_checkpoints",
        "keep_best",
        "weight_sets",
    )
    yield from _each(prefix, train, positive, *_POSITIVE)
    others = (
        "warmup_steps",
        "warmup_learning_rate",
        "final_learning_rate",
        "weight_decay",
        "clip_norm",
        "balance_loss",
        "z_loss",
        "consistency",
        "largest_steps",
        "sandwich_random",
        "distillation_warmup",
    )
    yield from _each(prefix, train, others, *_NOT_NEGATIVE)
    weight = train.distillation_weight
    yield f"{prefix}.distillation_weight", weight, 0 <= weight <= 1, "must be in [0, 1]"
    yield from _each(prefix, train, ("balance_layers",), *_one_of(("mean", "sum")))
    yield f"{prefix}.passes", train.passes, train.passes in (1, 2), "must be 1 or 2"
    one_pass = train.passes == 1 and train.consistency > 0
    rule = f"compares two passes; set {prefix}.passes=2"
    yield f"{prefix}.consistency", train.consistency, not one_pass, rule
    twice = train.passes == 2 and train.sampling == "sandwich"
    rule = f"cannot be 2 with {prefix}.sampling='sandwich'"
    yield f"{prefix}.passes", train.passes, not twice, rule
    shared = train.sampling == "sandwich" and train.largest_steps > 0
    rule = f"has no effect with {prefix}.sampling='sandwich'; set it to 0"
    yield f"{prefix}.largest_steps", train.largest_steps, not shared, rule
    rule = f"must be below {prefix}.steps={train.steps}, or no sub-network is trained"
    yield f"{prefix}.largest_steps", train.largest_steps, train.largest_steps < train.steps, rule
    yield from _each(prefix, train, ("adam_b1", "adam_b2", "label_smoothing"), *_RATE)
    yield from _each(prefix, train, ("schedule",), *_one_of(("cosine", "inverse_sqrt")))
    yield from _each(prefix, train, ("sampling",), *_one_of(SAMPLINGS))
    unfair = train.sampling == "fair" and train.within_limits
    rule = f"draws from the whole space; set {prefix}.within_limits=False"
    yield f"{prefix}.sampling", train.sampling, not unfair, rule
    least = longest * train.accumulate * parts
    fits = train.tokens_per_batch >= least
    shared = "" if parts == 1 else f" for each of the {parts} devices that share it"
    yield (
        f"{prefix}.tokens_per_batch",
        train.tokens_per_batch,
        fits,
        f"must hold a sentence of the longest bucket in each micro-batch{shared} ({least} tokens)",
    )
