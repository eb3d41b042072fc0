"""Contradictions between settings, found when a configuration is read or before the first stage."""

import dataclasses
import math
import re
import types
from typing import Any

import pytest

from automoe_jax import stages
from automoe_jax.config import MOST_TRANSLATIONS, STAGES, Config, flatten, from_flat
from automoe_jax.costs import costs
from automoe_jax.errors import UserError
from automoe_jax.model import Spec
from automoe_jax.runtime.sharding import Placement
from automoe_jax.search.limits import COSTS, Conditions, Cost, cost_function, within_limits
from automoe_jax.space import SearchSpace
from automoe_jax.stages import check_environment, supernet

SETTINGS = flatten(dataclasses.asdict(Config()))
ONE_ARCH = {
    f"space.{field.name}": getattr(Config().space, field.name)[-1:]
    for field in dataclasses.fields(SearchSpace)
    if isinstance(getattr(Config().space, field.name), tuple)
}


CLASSIFIER = {
    "task": "classify",
    "data.source": "text",
    "data.path": "a.tsv",
    "space.decoder_layers": (0,),
    "space.decoder_embed_dims": (512,),
}


def changed(settings: dict[str, Any]) -> Config:
    return from_flat(SETTINGS | settings)


@pytest.mark.parametrize("limit", ["max_flops", "max_params", "max_active_params"])
@pytest.mark.parametrize("router", ["topk", "random", "importance"])
def test_a_limit_that_nothing_meets_is_found_at_once(limit: str, router: str) -> None:
    with pytest.raises(UserError) as raised:
        changed({f"search.{limit}": 10.0, "router.kind": router})
    message = str(raised.value)
    assert message.startswith(
        f"search.{limit}=1e1 is below the smallest architecture of this space ("
    )
    least = re.search(r"\(([\d.e]+) ", message)
    assert least is not None
    config = changed({f"search.{limit}": float(least[1]), "router.kind": router})
    cost = cost_function(Conditions(config.search, config.router))
    assert within_limits(cost(config.space.smallest()), config.search)
    with pytest.raises(UserError, match="below the smallest"):
        changed({f"search.{limit}": 0.99 * float(least[1]), "router.kind": router})


def test_a_limit_counts_the_configured_lengths() -> None:
    short = {"search.source_length": 1, "search.target_length": 1}
    arch = Config().space.smallest()
    limit = 2 * costs(arch, 1, 1).flops
    assert changed({"search.max_flops": limit, **short}).search.max_flops == limit
    with pytest.raises(UserError, match=r"search\.max_flops"):
        changed({"search.max_flops": limit})


def test_a_cost_from_outside_is_limited_as_soon_as_the_vocabulary_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the SuperNet trains: the workdir has no text to train it on."""
    per_piece = Cost("tables", lambda conditions: lambda arch: conditions.vocab_size / 100)
    monkeypatch.setitem(COSTS, "tables", per_piece)
    config = changed({"search.limits": "tables=3"})
    spec = Spec(config.space, 400)
    with pytest.raises(UserError, match=r"search.limits=3e0 is below the smallest .* \(4e0 tables"):
        supernet.run(config, types.SimpleNamespace(spec=lambda config: spec))


def test_a_space_of_one_architecture_has_no_weights_to_inherit() -> None:
    assert changed(ONE_ARCH).space.size() == 1
    with pytest.raises(
        UserError, match=r"config\.retrain\.init='inherited' needs a SuperNet, but config\.space"
    ):
        changed(ONE_ARCH | {"retrain.init": "inherited"})
    assert changed({"retrain.init": "inherited"}).retrain.init == "inherited"


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 10**400])
@pytest.mark.parametrize(
    "name", [name for name, value in SETTINGS.items() if isinstance(value, float)]
)
def test_numbers_are_finite(name: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"config\.{re.escape(name)}=.* must be a finite number"):
        changed({name: value})


def test_seeds_that_would_wrap_around() -> None:
    assert changed({"seed": 2**32 - 1}).seed == 2**32 - 1
    with pytest.raises(UserError, match=r"config\.seed=4294967296 must be in"):
        changed({"seed": 2**32})


@pytest.mark.parametrize("stage", ["supernet", "retrain"])
def test_batches_hold_a_sentence_for_each_device(
    monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """With `mesh.data=0` the number of devices is known only where the run starts."""

    class Eight(Placement):
        sentence_parts = 8

    config = changed(
        {f"{one}.tokens_per_batch": 64 * 8 for one in ("supernet", "retrain")}
        | {f"{stage}.tokens_per_batch": 64 * 8 - 1}
    )
    check_environment(config, STAGES)
    monkeypatch.setattr(stages, "placement", lambda _: Eight())
    with pytest.raises(
        UserError,
        match=rf"config\.{stage}\.tokens_per_batch=511 cannot hold 8 sentences of 64 tokens",
    ):
        check_environment(config, STAGES)
    check_environment(config, ["prepare", "evaluate"])


def test_devices_are_counted_before_the_text_is_prepared() -> None:
    config = changed({"mesh.data": 3})
    with pytest.raises(UserError, match=r"config\.mesh=data:3.* does not match the 1 devices"):
        check_environment(config, STAGES)
    check_environment(config, ["prepare"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model.shared_embeddings": "half"}, "shared_embeddings='half' must be one of all, dec"),
        ({"data.joint_vocabulary": False}, "shared_embeddings='all' needs one vocabulary; set 'de"),
        ({"data.target_vocab_size": 900}, "target_vocab_size=900 is for data.joint_vocabulary=F"),
        (
            {
                "data.joint_vocabulary": False,
                "model.shared_embeddings": "none",
                "data.target_vocab_size": 7,
            },
            "target_vocab_size=7 must be at least 8, or 0 for as many pieces as data.vocab_size",
        ),
        (
            {
                "data.joint_vocabulary": False,
                "model.shared_embeddings": "none",
                "data.target_vocab_size": 901,
                "mesh.model": 2,
            },
            "config.mesh.model=2 must divide config.data.target_vocab_size=901",
        ),
        (
            CLASSIFIER | {"model.shared_embeddings": "none"},
            "shared_embeddings='none' is for translation; leave it 'all'",
        ),
        (
            CLASSIFIER | {"data.joint_vocabulary": False},
            "joint_vocabulary=False is for translation; a classifier has one vocabulary",
        ),
    ],
)
def test_vocabularies_and_their_tables(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        changed(settings)
    assert message in str(raised.value)


def test_separate_vocabularies() -> None:
    settings = {"data.joint_vocabulary": False, "model.shared_embeddings": "decoder"}
    assert changed(settings).data.target_vocab_size == 0
    assert changed(settings | {"data.target_vocab_size": 900}).data.target_vocab_size == 900


def test_a_shortlist_has_at_most_the_translations_of_its_table() -> None:
    assert changed({"evaluate.shortlist": MOST_TRANSLATIONS}).evaluate.shortlist == 100
    with pytest.raises(
        UserError, match=r"evaluate\.shortlist=101 must be between 0, none, and 100"
    ):
        changed({"evaluate.shortlist": 101})


def test_fair_sampling_is_for_the_whole_space() -> None:
    fair = {"supernet.sampling": "fair", "supernet.within_limits": False}
    assert changed(fair).supernet.sampling == "fair"
    with pytest.raises(UserError, match=r"supernet\.sampling='fair' draws from the whole space"):
        changed({"supernet.sampling": "fair"})


def test_a_start_with_the_largest_is_not_for_sandwiches_which_hold_it() -> None:
    start = {"supernet.largest_steps": 10}
    assert changed(start).supernet.largest_steps == 10
    rule = r"supernet\.largest_steps=10 has no effect with .*'sandwich'; set it to 0"
    with pytest.raises(UserError, match=rule):
        changed(start | {"supernet.sampling": "sandwich"})
    with pytest.raises(UserError, match=r"supernet\.largest_steps=-1 must not be negative"):
        changed({"supernet.largest_steps": -1})
    with pytest.raises(UserError, match=r"=10 must be below .*steps=10, or no sub-network is"):
        changed({"supernet.largest_steps": 10, "supernet.steps": 10})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sampling", "sandwich"),
        ("within_limits", False),
        ("weight_sets", 2),
        ("width_norms", True),
        ("largest_steps", 10),
        ("sandwich_random", 3),
        ("distillation", False),
        ("distillation_weight", 0.1),
        ("distillation_warmup", 0.1),
    ],
)
def test_settings_of_the_supernet_are_refused_for_the_networks_trained_alone(
    name: str, value: Any
) -> None:
    changed({f"supernet.{name}": value})
    with pytest.raises(UserError, match=rf"config.retrain.{name}=.* is for the SuperNet only; set"):
        changed({f"retrain.{name}": value})
