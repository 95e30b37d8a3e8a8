import re

import pytest

from metaopt.config.build import build_problem
from metaopt.config.build_search import build_search, check_search
from metaopt.config.load import evaluate_config, train_config
from metaopt.config.search import SearchConfig
from metaopt.errors import ConfigError
from metaopt.policies.policy import Policy
from metaopt.search.samplers import METHODS

# override, the field that the error must name, the value that came, what it must offer
WRONG = [
    ("search.methods=[random,magic]", "search.methods", "magic", ", ".join(METHODS)),
    ("search.methods=[tpe,tpe]", "search.methods", "tpe", "once"),
    ("search.methods=tpe", "search.methods", "tpe", ""),
    ("search.space=[lr,colour]", "search.space", "colour", "optimizer, lr, l2"),
    ("search.space=[lr,lr]", "search.space", "lr", "once"),
    ("search.space=[]", "search.space", "empty", "optimizer, lr, l2"),
    ("search.validation=guess", "search.validation", "guess", "holdout, kfold"),
    ("search.folds=1", "search.folds", "1", "2"),
    ("search.folds=many", "search.folds", "many", ""),
    ("search.warm_start=maybe", "search.warm_start", "maybe", "false, true, both"),
    ("search.warm_start=1", "search.warm_start", "1", "false, true, both"),
    ("search.warm_start=null", "search.warm_start", "None", "false, true, both"),
    ("search.warm_start=[true]", "search.warm_start", "True", "false, true, both"),
    ("search.workers=0", "search.workers", "0", "1"),
    ("search.workers=-2", "search.workers", "-2", "1"),
    ("search.trials=0", "search.trials", "0", "1"),
]


@pytest.mark.parametrize(("override", "field", "value", "offer"), WRONG, ids=[override for override, *_ in WRONG])
@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_a_wrong_value_is_refused_in_one_line(composed, name, override, field, value, offer):
    read = train_config if name == "train" else evaluate_config
    more = ["checkpoint=x"] if name == "evaluate" else []
    with pytest.raises(ConfigError) as caught:
        read(composed(*more, override, name=name))
    message = str(caught.value)
    assert "\n" not in message
    assert field in message
    assert value in message
    assert offer in message


def built(composed_job, overrides=(), **search):
    """The search of a small job on digits, with 6 support examples."""
    config = train_config(composed_job("evaluation.n_tasks=2", *overrides))
    settings = config.policy.settings()
    problem = build_problem(config.tasks, config.model, config.inner, settings)
    made = Policy(settings, problem.model.shapes, problem.model.init, problem.horizon, roles=problem.model.roles)
    wanted = SearchConfig(**({"methods": ["tpe"]} | search))
    check_search(wanted, problem, settings, config.evaluation.batch_statistics)
    return build_search(wanted, problem, made, config.inner.dtype, True, 0, 6)


@pytest.mark.parametrize("url", ["nonsense://x", "sqlite:////no/such/folder/s.db", "s.db", ""])
def test_a_storage_that_cannot_be_opened_is_refused_in_one_line(tiny, url):
    with pytest.raises(ConfigError) as caught:
        built(tiny, storage=url)
    message = str(caught.value)
    assert message.startswith(f"search.storage is {url!r}")
    assert "sqlite:///" in message
    assert "\n" not in message


def test_a_network_that_has_no_such_choices_is_refused(composed):
    with pytest.raises(
        ConfigError, match=r"^search\.space has activation, .*model=mlp.*conv4.*leave activation, depth out$"
    ):
        built(composed, ("tracking=none", "model=conv4"), space=["lr", "activation", "depth"])


def test_searches_by_the_test_sets_statistics_are_not_held_against_a_policy_by_the_support_sets(composed):
    alone = ("tracking=none", "model=conv4", "evaluation.batch_statistics=inductive")
    with pytest.raises(ConfigError, match=r"^batch_statistics is inductive, .*; use batch_statistics=both or"):
        built(composed, alone)
    built(composed, alone, methods=[])
    built(composed, ("tracking=none", "model=conv4"))


def test_more_folds_than_examples_are_refused_before_any_work(tiny):
    with pytest.raises(
        ConfigError, match=r"^search\.folds is 7, but a support set has 6 examples; use 6 folds or fewer$"
    ):
        built(tiny, validation="kfold", folds=7)
    assert built(tiny, validation="kfold", folds=6).setting.folds == 6
    assert built(tiny, validation="holdout", folds=7).setting.folds is None


@pytest.mark.parametrize(
    ("warm_start", "names"),
    [(False, ["tpe", "grid"]), (True, ["tpe_warm", "grid_warm"]), ("both", ["tpe", "tpe_warm", "grid", "grid_warm"])],
)
def test_methods_start_cold_or_warm(tiny, warm_start, names):
    search = built(tiny, methods=["tpe", "grid"], warm_start=warm_start, trials=7)
    assert list(search.plan.methods) == names
    assert search.plan.trials == 7
    assert bool(search.mapping) == (warm_start is not False)
    for name, (method, space) in search.plan.methods.items():
        assert method == name.removesuffix("_warm")
        assert ("lr_multiplier" in space.distributions) == name.endswith("_warm")


def test_the_name_of_studies_changes_with_what_trials_depend_on_and_with_nothing_else(tiny):
    name = built(tiny, methods=["tpe"]).plan.name
    assert re.fullmatch(r"digits [0-9a-f]{16}", name)
    for same in (
        {"methods": ["tpe", "grid"]},
        {"methods": ["tpe"], "trials": 3},
        {"methods": ["tpe"], "warm_start": "both"},
    ):
        assert built(tiny, **same).plan.name == name
    assert built(tiny, methods=["tpe"], validation="kfold").plan.name != name
    for other in (
        "inner.horizon=4",
        "inner.batch_size=3",
        "model.widths=[5]",
        "model.activation=tanh",
        "inner.dtype=float64",
    ):
        assert built(tiny, overrides=(other,), methods=["tpe"]).plan.name != name
